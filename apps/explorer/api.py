"""The explorer over HTTP: translate, one call, translate back."""

import itertools
import math
from datetime import timedelta
from typing import Any

from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.models import User
from apps.accounts.selectors import require
from apps.explorer import replayer, results, selectors, services, streams
from apps.explorer.lifecycle import State
from apps.explorer.models import Replay, Search
from apps.explorer.question import Condition, Question, SearchRefused, since_or_window
from apps.explorer.serializers import (
    AskReplaySerializer,
    AskSerializer,
    DownloadSerializer,
    LogRequestSerializer,
    LogSerializer,
    PageSerializer,
    ReplayDetailSerializer,
    ReplaySerializer,
    SearchDetailSerializer,
    SearchPageSerializer,
    SearchSerializer,
)
from apps.serving.models import Endpoint

SEARCHES = Search.objects.select_related(
    "endpoint__model", "endpoint__environment", "asked_by", "job"
)
REPLAYS = Replay.objects.select_related(
    "endpoint__model", "endpoint__environment", "asked_by", "job", "revision__version"
)


class OneRequest(APIView):
    @extend_schema(parameters=[LogRequestSerializer], responses=LogSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """One request as it came and was answered; with its copies, which have the same id."""
        endpoint = _endpoint(request, pk, "view")
        asked = _read(LogRequestSerializer, request.query_params)
        since = timezone.now() - timedelta(days=asked["days"])
        found = selectors.request(endpoint, asked["request_id"], since, near=asked.get("at"))
        answers = [] if found.whole is None else found.whole.answers
        rows = [{**one.row, "differs": one.differs} for one in answers]
        told = {"results": rows, "labels": found.labels, "not_before": found.not_before}
        return Response(LogSerializer(told).data)


class Searches(generics.GenericAPIView[Search]):
    serializer_class = SearchSerializer
    queryset = Search.objects.none()  # for the schema

    @extend_schema(operation_id="endpoints_searches", responses=SearchSerializer(many=True))
    def get(self, request: Request, pk: int) -> Response:
        """The searches in an endpoint's prediction log, newest first."""
        page = self.paginate_queryset(selectors.searches(_endpoint(request, pk, "view")))
        return self.get_paginated_response(SearchSerializer(page, many=True).data)

    @extend_schema(
        operation_id="endpoints_search", request=AskSerializer, responses={202: SearchSerializer}
    )
    def post(self, request: Request, pk: int) -> Response:
        """Search the prediction log. Rows of the last minute or so are in no file yet."""
        endpoint = _endpoint(request, pk, "log.search")
        asked = _read(AskSerializer, request.data)
        until = asked.pop("until", None) or timezone.now()
        question = Question(
            since=since_or_window(asked.pop("since", None), until),
            until=until,
            revisions=tuple(asked.pop("revisions")),
            conditions=tuple(Condition(**one) for one in asked.pop("conditions")),
            **asked,
        )
        search = services.ask(
            endpoint=endpoint, question=question, actor=_person(request), now=timezone.now()
        )
        return Response(SearchSerializer(search).data, status=status.HTTP_202_ACCEPTED)


class SearchDetail(APIView):
    @extend_schema(parameters=[SearchPageSerializer], responses=SearchDetailSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """How far a search is and, as soon as it is done, its rows."""
        search = _visible(request, SEARCHES, pk)
        asked = _read(SearchPageSerializer, request.query_params)
        found = results.Page([], [], 0)
        if search.has_result:
            found = _page(search, asked, bodies=asked["bodies"])
        search.columns = found.columns
        search.rows = [_plain(row) for row in found.rows]
        search.waiting_rows = selectors.waiting_rows(search.endpoint)
        return Response(SearchDetailSerializer(search).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        """Cancel a search that has not ended, or remove one that has and its result."""
        search = _visible(request, SEARCHES, pk)
        _stop_or_remove(request, search)
        return Response(status=status.HTTP_204_NO_CONTENT)


class SearchDownload(APIView):
    @extend_schema(
        parameters=[DownloadSerializer],
        responses={
            (200, "application/vnd.apache.parquet"): OpenApiTypes.BINARY,
            (200, "text/csv"): OpenApiTypes.STR,
        },
    )
    def get(self, request: Request, pk: int) -> HttpResponseBase:
        """The whole result as a file. In CSV, texts that a spreadsheet would run begin with '."""
        search = _visible(request, SEARCHES, pk)
        return _download(request, search, f"{search.endpoint.name}-{search.pk}")


class Replays(generics.GenericAPIView[Replay]):
    serializer_class = ReplaySerializer
    queryset = Replay.objects.none()  # for the schema

    @extend_schema(operation_id="endpoints_replays", responses=ReplaySerializer(many=True))
    def get(self, request: Request, pk: int) -> Response:
        """The replays of an endpoint's recorded requests, newest first."""
        page = self.paginate_queryset(selectors.replays(_endpoint(request, pk, "view")))
        return self.get_paginated_response(ReplaySerializer(page, many=True).data)

    @extend_schema(
        operation_id="endpoints_replay",
        request=AskReplaySerializer,
        responses={202: ReplaySerializer},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Ask a revision what others were asked, and compare its answers with theirs.

        The requests are recorded as copies: they are in no figure of what callers get.
        """
        endpoint = _endpoint(request, pk, "log.replay")
        asked = _read(AskReplaySerializer, request.data)
        made = services.replay(
            endpoint=endpoint,
            revision=get_object_or_404(endpoint.revisions, number=asked["revision"]),
            search=get_object_or_404(SEARCHES, pk=asked["search"], endpoint=endpoint)
            if "search" in asked
            else None,
            request_id=asked.get("request_id", ""),
            actor=_person(request),
            now=timezone.now(),
        )
        return Response(ReplaySerializer(made).data, status=status.HTTP_202_ACCEPTED)


class ReplayDetail(APIView):
    @extend_schema(parameters=[PageSerializer], responses=ReplayDetailSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """How far a replay is and, as soon as it is done, its requests, what differs first."""
        replay = _visible(request, REPLAYS, pk)
        asked = _read(PageSerializer, request.query_params)
        found = results.Page([], [], 0)
        if replay.result_path:
            found = _page(replay, asked, bodies=True, first=replayer.WORST_FIRST)
        replay.rows = found.rows
        return Response(ReplayDetailSerializer(replay).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        """Cancel a replay that has not ended, or remove one that has and its result."""
        _stop_or_remove(request, _visible(request, REPLAYS, pk))
        return Response(status=status.HTTP_204_NO_CONTENT)


class ReplayDownload(APIView):
    @extend_schema(
        parameters=[DownloadSerializer],
        responses={
            (200, "application/vnd.apache.parquet"): OpenApiTypes.BINARY,
            (200, "text/csv"): OpenApiTypes.STR,
        },
    )
    def get(self, request: Request, pk: int) -> HttpResponseBase:
        """Each request of a replay, both answers and how they differ, as a file.

        In CSV, texts that a spreadsheet would run begin with '.
        """
        replay = _visible(request, REPLAYS, pk)
        return _download(request, replay, f"{replay.endpoint.name}-replay-{replay.pk}")


def _download(request: Request, row: Search | Replay, name: str) -> HttpResponseBase:
    kind = _read(DownloadSerializer, request.query_params)["as"]
    if not row.result_path:
        raise _no_result(row)
    read = results.as_csv if kind == "csv" else results.as_parquet
    chunks = read(results.folder() / row.result_path, row.digest)
    try:
        first = next(chunks)
    except results.ResultGone:
        raise _no_result(row) from None
    whole = itertools.chain([first], chunks)
    return streams.stream(request._request, whole, kind=kind, name=name)


def _page(row: Search | Replay, asked: dict[str, Any], **more: Any) -> results.Page:
    path = results.folder() / row.result_path
    try:
        return results.page(
            path, start=asked["start"], count=asked["count"], sort=asked["sort"], **more
        )
    except results.ResultGone:
        return results.Page([], [], 0)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _json(value) for name, value in row.items()}


def _json(value: Any) -> Any:
    """JSON has no word for what is no number."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _no_result(row: Search | Replay) -> SearchRefused:
    if State(row.state).is_final:
        return SearchRefused(f"The {row} has no result any more, or found nothing", "no_result")
    return SearchRefused(f"The {row} has not ended yet", "not_ended")


def _stop_or_remove(request: Request, row: Any) -> None:
    """Whoever asked may stop it; who may cancel other work may stop this too."""
    require(request.user, "log.search", row)
    if row.asked_by_id != request.user.pk:
        require(request.user, "job.cancel", row)
    if State(row.state).is_final:
        services.remove(row=row)
    else:
        services.cancel(row=row, actor=_person(request), now=timezone.now())


def _endpoint(request: Request, pk: int, verb: str) -> Endpoint:
    found = get_object_or_404(Endpoint.objects.select_related("model", "environment"), pk=pk)
    require(request.user, verb, found)
    return found


def _visible(request: Request, rows: Any, pk: int) -> Any:
    found = get_object_or_404(rows, pk=pk)
    require(request.user, "view", found)
    return found


def _person(request: Request) -> User:
    assert isinstance(request.user, User)
    return request.user


def _read(serializer: type[Any], data: Any) -> dict[str, Any]:
    asked = serializer(data=data)
    asked.is_valid(raise_exception=True)
    values: dict[str, Any] = asked.validated_data
    return values
