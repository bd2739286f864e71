"""Settings: what differs from node to node comes from the environment and from secrets."""
import os
from pathlib import Path

DATA = Path(os.environ.get("NOTES_DATA", "/var/lib/notes"))


def secret(name, otherwise):
    """The secret that the node gives; without a node, as in tests, something else."""
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    return (Path(given) / name).read_text().strip() if given else otherwise


SECRET_KEY = secret("django-secret-key", "only for tests")
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost").split(",")
DEBUG = False
INSTALLED_APPS = ["django.contrib.sessions", "django.contrib.staticfiles", "notes"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
]
ROOT_URLCONF = "notes.urls"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
# DATABASE_HOST makes it PostgreSQL on another machine.
if os.environ.get("DATABASE_HOST"):
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ["DATABASE_HOST"],
            "NAME": os.environ.get("DATABASE_NAME", "notes"),
            "USER": os.environ.get("DATABASE_USER", "notes"),
            "PASSWORD": secret("database-password", ""),
        }
    }
else:
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA / "notes.sqlite"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MEDIA_ROOT = DATA / "attachments"
STATIC_URL = "static/"
STATIC_ROOT = "/srv/notes/static"
USE_TZ = True
