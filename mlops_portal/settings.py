"""Django's settings. What differs between installations comes from the environment or `var/`."""

import importlib.util
import sys
from datetime import timedelta
from pathlib import Path

import environ
from csp.constants import NONE, SELF

from mlops_portal.stack import config

env = environ.Env()
STACK = config.load()
BASE_DIR = config.ROOT
VAR = STACK.var

SECRET_KEY = env.str("SECRET_KEY", default=STACK.django_secret)
DEBUG = False
PUBLIC_URL = env.str("PORTAL_PUBLIC_URL", default=STACK.web_url)
_public_host = PUBLIC_URL.split("://")[-1].split("/")[0].split(":")[0]
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", _public_host])
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]

OUR_APPS = [
    "apps.core",
    "apps.accounts",
    "apps.audit",
    "apps.people",
    "apps.jobs",
    "apps.notifications",
    "apps.registry",
    "apps.builds",
    "apps.baselines",
    "apps.serving",
    "apps.validation",
    "apps.monitoring",
    "apps.quality",
    "apps.incidents",
    "apps.explorer",
    "apps.promotions",
    "apps.rollouts",
]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "django_htmx",
    "lucide",
    "csp",
    *OUR_APPS,
    "mlops_portal",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "apps.core.middleware.AddressMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "apps.accounts.middleware.IdempotencyMiddleware",
    "apps.core.middleware.RefusalMiddleware",
]
ROOT_URLCONF = "mlops_portal.urls"
ASGI_APPLICATION = "mlops_portal.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "apps.accounts.context.rights",
                "mlops_portal.context.navigation",
            ],
            "builtins": ["apps.core.templatetags.ui"],
        },
    }
]

DATABASES = {"default": env.db_url_config(STACK.database_url)}
DATABASES["default"]["ENGINE"] = "django.db.backends.postgresql"
# A thread a request: without a pool each would open its own connection.
_serves = any("uvicorn" in argument for argument in sys.argv)
if _serves:
    DATABASES["default"]["ENGINE"] = "mlops_portal.postgres"  # asks each before it is used
    DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 2, "max_size": 40, "timeout": 10}}
else:
    # Asked before it is used: after a restart of the database each connection that was open would
    # answer one task with an error.
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    DATABASES["default"]["CONN_MAX_AGE"] = 600
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PUBLIC_URL.startswith("https:")
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [SELF],
        "frame-ancestors": [NONE],
        "form-action": [SELF],
    }
}

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = VAR / "static"
_plotly = importlib.util.find_spec("plotly")
assert _plotly is not None
assert _plotly.submodule_search_locations
STATICFILES_DIRS = [
    BASE_DIR / "static",
    ("plotly", Path(next(iter(_plotly.submodule_search_locations))) / "package_data"),
]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

REDIS_URL = STACK.redis_url
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": "portal"},
    }
}

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True  # rows hold what came of it
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = {
    "builds.run": {"queue": "builds"},
    "validation.run": {"queue": "validation"},
    "baselines.run": {"queue": "validation"},
    "baselines.sweep": {"queue": "monitoring"},
    "explorer.*": {"queue": "analyses"},
    "quality.*": {"queue": "analyses"},
    "incidents.*": {"queue": "analyses"},
    "rollouts.*": {"queue": "rollouts"},
    "serving.*": {"queue": "rollouts"},
    "monitoring.*": {"queue": "monitoring"},
    "notifications.*": {"queue": "notifications"},
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 7200,
    "unacked_restore_interval": 2,
    "unacked_restore_throttle": 1,
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    "retry_on_timeout": True,
}
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TASK_TIME_LIMIT = 3600
# A sweep that could not run in time is worth nothing: the next one sees the same rows.
CELERY_BEAT_SCHEDULE = {
    name: {"task": name, "schedule": timedelta(seconds=seconds), "options": {"expires": seconds}}
    for name, seconds in {
        "jobs.sweep": 3,
        "registry.sweep": 5,
        "builds.sweep": 3,
        "baselines.sweep": 5,
        "promotions.sweep": 2,
        "rollouts.sweep": 1,
        "serving.sweep": 3,
        "notifications.sweep": 3,
        "monitoring.sweep": 60,
        "quality.join": 5,
        "quality.expire": 3600,
        "explorer.sweep": 60,
        "incidents.sweep": 10,
        "incidents.digest": 60,
    }.items()
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "apps.accounts.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["apps.core.parsers.BoundedJSONParser"],
    "DEFAULT_PAGINATION_CLASS": "apps.core.api.Pages",
    "PAGE_SIZE": 50,
    "DEFAULT_SCHEMA_CLASS": "apps.core.schema.Schema",
    "EXCEPTION_HANDLER": "apps.core.api.explain",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Portal API",
    "DESCRIPTION": "Get machine-learning models into production and keep them right there.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
}

EMAIL_URL = env.str("EMAIL_URL", default="")
if EMAIL_URL:
    vars().update(env.email_url("EMAIL_URL"))
else:
    # Outgoing mail stands in the panel (notifications.Delivery); there is no server to give it to.
    EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
EMAIL_TIMEOUT = 20  # seconds; a server that hangs would hold the worker of every other tick
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default=f"Portal <portal@{_public_host}>")

MLFLOW_URL = STACK.mlflow_url
MLFLOW_TOKEN = STACK.mlflow_token
MLFLOW_EMBEDDED = STACK.embeds_mlflow
MLFLOW_WEBHOOK_SECRET = env.str("MLFLOW_WEBHOOK_SECRET", default=STACK.webhook_secret)
# Packages without a wheel run a script of theirs when they are built, with the panel's rights.
BUILD_FROM_SOURCE = env.bool("PORTAL_BUILD_FROM_SOURCE", default=False)
# Where models may be served by a server that runs elsewhere: callers' rows are sent there.
REMOTE_SERVERS = env.list("PORTAL_REMOTE_SERVERS", default=[])  # "host:port"
# Where data sets may be fetched from, beside the panel's own MLflow.
DATASET_HOSTS = env.list("PORTAL_DATASET_HOSTS", default=[])  # "host:port"
# Segments that could not be counted or logged are kept for people, up to so many megabytes.
REJECTED_MB = env.int("PORTAL_REJECTED_MB", default=1024)
GATEWAY_URL = env.str("PORTAL_GATEWAY_URL", default=STACK.gateway_url)

SERVING_BACKENDS = {
    "local": {"BACKEND": "apps.serving.backends.local.LocalBackend", "OPTIONS": {}},
}
# What a search in the prediction log may use, in a process of its own.
EXPLORER_MEMORY_MB = env.int("PORTAL_EXPLORER_MEMORY_MB", default=1024)
EXPLORER_THREADS = env.int("PORTAL_EXPLORER_THREADS", default=2)
EXPLORER_SECONDS = env.float("PORTAL_EXPLORER_SECONDS", default=300.0)
JOB_LEASE_SECONDS = env.int("PORTAL_JOB_LEASE_SECONDS", default=15)
JOB_MAX_ATTEMPTS = 3

DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 1024 * 1024
FILE_UPLOAD_TEMP_DIR = None

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "httpx": {"level": "WARNING"},
        # Sweeps each second: that they ran is no news.
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "alembic": {"level": "WARNING"},
        "django.request": {"level": "ERROR"},
    },
}
