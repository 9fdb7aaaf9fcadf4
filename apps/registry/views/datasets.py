from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from apps.accounts.models import User
from apps.core.errors import Refused
from apps.registry.forms import DatasetForm
from apps.registry.lifecycle import DatasetRole
from apps.registry.models import Model
from apps.registry.services import datasets
from apps.registry.views.models import dataset_command, model_for


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def register(request: HttpRequest, name: str) -> HttpResponse:
    model = model_for(request.user, name, "dataset.register")
    form = DatasetForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid() and _register(request, model, form):
        return redirect(f"{model.get_absolute_url()}#datasets")
    context = {"model": model, "form": form, "command": dataset_command(model.name)}
    return render(request, "registry/dataset.html", context, status=422 if form.errors else 200)


def _register(request: HttpRequest, model: Model, form: DatasetForm) -> bool:
    assert isinstance(request.user, User)
    given = form.cleaned_data
    try:
        dataset = datasets.register_dataset(
            model=model,
            name=given["name"],
            role=DatasetRole(given["role"]),
            file=given["file"],
            label_column=given["label_column"],
            time_column=given["time_column"],
            actor=request.user,
            now=timezone.now(),
        )
    except Refused as refused:
        form.add_error("file", refused.message)
        return False
    messages.success(request, f"{dataset} is registered: {dataset.rows} rows")
    return True
