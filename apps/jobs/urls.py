from django.urls import URLPattern, path

from apps.jobs import api, views

urlpatterns: list[URLPattern] = [
    path("jobs/<int:pk>/lines", views.lines, name="job_lines"),
    path("jobs/<int:pk>/cancel", views.cancel, name="job-cancel"),
]
api_urlpatterns: list[URLPattern] = [
    path("jobs", api.Jobs.as_view()),
    path("jobs/<int:pk>", api.JobDetail.as_view()),
    path("jobs/<int:pk>/cancel", api.CancelJob.as_view()),
]
