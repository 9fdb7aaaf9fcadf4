"""Callers of what serves now may not have to change anything."""

from dataclasses import dataclass
from typing import Any

from apps.validation.gates import Outcome, Seen
from apps.validation.holdout import Holdout
from apps.validation.lifecycle import Verdict

# What a declared type accepts beside itself, as model_server enforces it.
ACCEPTS = {
    "double": {"float", "long", "integer"},
    "float": {"double", "long", "integer"},
    "long": {"integer"},
    "integer": {"long"},  # the number decides, not its name: JSON knows one kind
}
ARROW = (
    ("int", "long"), ("uint", "long"), ("halffloat", "double"), ("float", "double"),
    ("double", "double"), ("decimal", "double"), ("bool", "boolean"), ("timestamp", "datetime"),
    ("date", "datetime"), ("string", "string"), ("large_string", "string"),
    ("dictionary<values=string", "string"), ("binary", "binary"),
)  # fmt: skip


@dataclass(frozen=True)
class Input:
    name: str
    type: str
    required: bool

    @property
    def words(self) -> str:
        return f"{self.name} ({self.type})"


class SchemaCompatible:
    """It compares what the candidate needs with what callers send today."""

    needs_answers = False
    needs_stable_answers = False

    def title(self, rule: dict[str, Any]) -> str:
        return "Callers need not change anything"

    def check(self, rule: dict[str, Any], seen: Seen) -> Outcome:
        needed = inputs(seen.candidate.signature)
        sent, whose, outputs = _sent(seen)
        if sent is None:
            return Outcome(
                Verdict.SKIPPED,
                f"Nothing that declares its columns serves in {seen.environment} yet, and no "
                "holdout says what callers send",
            )
        if not needed:
            return Outcome(
                Verdict.UNCLEAR,
                f"{seen.candidate.version} declares no columns (log it with a signature), so it "
                "cannot be compared",
                {"compared_with": whose, "sent": [i.words for i in sent.values()]},
            )
        missing = [i for i in needed if i.required and not _always_sent(sent.get(i.name))]
        unlike = [
            (i, sent[i.name])
            for i in needed
            if i.name in sent and not _accepts(i.type, sent[i.name].type)
        ]
        changed = _changed(seen.candidate.signature.get("outputs"), outputs)
        evidence = {
            "compared_with": whose,
            "needed": [i.words for i in needed],
            "sent": [i.words for i in sent.values()],
            "missing": [i.words for i in missing],
            "unlike": [f"{i.name}: {i.type} needed, {s.type} sent" for i, s in unlike],
            "no_longer_used": sorted(set(sent) - {i.name for i in needed}),
            "answer_changed": changed,
        }
        problems = []
        if missing:
            problems.append(f"needs {_list(i.words for i in missing)}, which {whose} does not have")
        if unlike:
            said = (f"{i.name} as {i.type} where {whose} has {s.type}" for i, s in unlike)
            problems.append(f"takes {_list(said)}")
        if changed:
            problems.append(f"answers {changed}")
        if problems:
            words = f"{seen.candidate.version} {'; it '.join(problems)}"
            return Outcome(Verdict.FAIL, words, evidence)
        summary = f"All {len(needed)} columns that it takes are there in {whose}, of fitting types"
        if len(needed) == 1:
            summary = f"The column that it takes is there in {whose}, of a fitting type"
        return Outcome(Verdict.PASS, summary, evidence)


def inputs(signature: dict[str, Any]) -> list[Input]:
    """It reads MLflow's columns or named tensors; an unnamed tensor is known by its width."""
    found = []
    for place, spec in enumerate(signature.get("inputs") or []):
        kind = spec.get("type", "any")
        if kind == "tensor":
            kind = _tensor(spec)
        named = spec.get("name")
        name = str(place) if named is None else str(named)
        found.append(Input(name, str(kind), bool(spec.get("required", True))))
    return found


def _sent(seen: Seen) -> tuple[dict[str, Input] | None, str, Any]:
    if seen.stable is not None:
        declared = inputs(seen.stable.signature)
        if declared:
            whose = str(seen.stable.version)
            return {i.name: i for i in declared}, whose, seen.stable.signature.get("outputs")
    named = all(spec.get("name") for spec in seen.candidate.signature.get("inputs") or [])
    if seen.holdout is not None and named:
        return _columns(seen.holdout), f"the data set {seen.holdout.dataset.name}", None
    return None, "", None


def _columns(holdout: Holdout) -> dict[str, Input]:
    found = {}
    for field in holdout.table.schema:
        if field.name != holdout.label_column:  # callers do not know it yet
            found[field.name] = Input(field.name, _from_arrow(str(field.type)), True)
    return found


def _from_arrow(name: str) -> str:
    return next((kind for start, kind in ARROW if name.startswith(start)), "any")


def _always_sent(sent: Input | None) -> bool:
    return sent is not None and sent.required


def _accepts(needed: str, sent: str) -> bool:
    if needed == sent or "any" in (needed, sent):
        return True
    return sent in ACCEPTS.get(needed, ())


def _changed(ours: Any, theirs: Any) -> str:
    """Only the shape of an answer breaks callers; 32 or 64 bits are the same number in JSON."""
    now, before = _answer(ours), _answer(theirs)
    return f"{now}, before {before}" if now and before and now != before else ""


def _answer(outputs: Any) -> str:
    if not outputs:
        return ""
    first = outputs[0]
    if first.get("type") == "tensor":
        shape = first.get("tensor-spec", {}).get("shape") or [-1]
        return "one value a row" if len(shape) == 1 else f"{shape[1:]} values a row"
    names = [str(spec["name"]) for spec in outputs if spec.get("name")]
    return f"the columns {', '.join(names)}" if names else "one value a row"


def _tensor(spec: dict[str, Any]) -> str:
    inner = spec.get("tensor-spec") or {}
    return f"tensor {inner.get('dtype')} {inner.get('shape')}"


def _list(words: Any) -> str:
    return ", ".join(words)


gate = SchemaCompatible()
