"""Every address of the product."""

from django.contrib.auth import views as auth
from django.urls import include, path
from drf_spectacular.views import SpectacularJSONAPIView

from apps.audit import urls as audit
from apps.baselines import urls as baselines
from apps.builds import urls as builds
from apps.explorer import urls as explorer
from apps.incidents import urls as incidents
from apps.jobs import urls as jobs
from apps.monitoring import urls as monitoring
from apps.notifications import urls as notifications
from apps.people import urls as people
from apps.promotions import urls as promotions
from apps.quality import urls as quality
from apps.registry import urls as registry
from apps.rollouts import urls as rollouts
from apps.serving import urls as serving
from apps.validation import urls as validation
from mlops_portal import views

# Serving last: its endpoints/<environment>/<name> would take others' endpoints/<id>/drift.
APPS = (
    people, audit, jobs, notifications, registry, builds, baselines, validation, monitoring,
    quality, incidents, explorer, promotions, rollouts, serving,
)  # fmt: skip

handler400 = "mlops_portal.errors.bad_request"
handler403 = "mlops_portal.errors.forbidden"
handler404 = "mlops_portal.errors.not_found"
handler500 = "mlops_portal.errors.broken"

api = [pattern for app in APPS for pattern in app.api_urlpatterns]
urlpatterns = [
    path("", views.home, name="home"),
    path("search", views.search, name="search"),
    path("styleguide", views.styleguide, name="styleguide"),
    path("health", views.health, name="health"),
    path("login", auth.LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout", auth.LogoutView.as_view(), name="logout"),
    path("api/v1/", include(api)),
    path("api/v1/schema/", SpectacularJSONAPIView.as_view(), name="schema"),
    *[pattern for app in APPS for pattern in app.urlpatterns],
]
