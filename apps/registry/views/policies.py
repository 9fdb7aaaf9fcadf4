from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from apps.accounts.models import User
from apps.accounts.selectors import may, require
from apps.registry import selectors
from apps.registry.forms import PolicyForm
from apps.registry.models import Model
from apps.registry.policy import PolicyRefused
from apps.registry.services import policies
from apps.registry.views.models import model_for


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def policy(request: HttpRequest, name: str) -> HttpResponse:
    model = model_for(request.user, name, "view")
    current = selectors.policy_of(model)
    form = PolicyForm(request.POST or None, initial={"text": current.text})
    if request.method == "POST":
        require(request.user, selectors.verb_to_put(model, form.data.get("text", "")), model)
    if request.method == "POST" and form.is_valid() and _put(request, model, form):
        return redirect("policy", name=model.name)
    context = {
        "model": model,
        "policy": current,
        "form": form,
        "editions": selectors.editions(model, 30),
        "may_edit": may(request.user, "policy.edit", model),
        "may_configure": may(request.user, "endpoint.configure", model),
    }
    return render(request, "registry/policy.html", context, status=422 if form.errors else 200)


def _put(request: HttpRequest, model: Model, form: PolicyForm) -> bool:
    assert isinstance(request.user, User)
    text = form.cleaned_data["text"].replace("\r\n", "\n")
    try:
        edition = policies.put_policy(
            model=model, text=text, actor=request.user, now=timezone.now()
        )
    except PolicyRefused as refused:
        # Each mistake beside the text that it is in, one a line.
        for mistake in refused.message.removeprefix("The policy has mistakes. ").split("; "):
            form.add_error("text", mistake)
        return False
    messages.success(request, f"Edition {edition.number} of the policy is in force")
    return True
