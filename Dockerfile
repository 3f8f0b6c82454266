# The image of every process of the portal: the web server unless told otherwise; deploy/compose.yaml runs them all.
#
# The root file system may be read-only; /tmp must be writable (a tmpfs of 16 MB is plenty). Secrets are mounted under
# /app/secrets. The user is 10001 and owns nothing.

FROM python:3.11-slim-bookworm AS build
WORKDIR /app
COPY requirements.txt ./
# Wheels alone: no compiler here, and no package's setup code is run.
RUN python -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --disable-pip-version-check --only-binary :all: -r requirements.txt

FROM python:3.11-slim-bookworm
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    WEB_BIND=0.0.0.0:8000
RUN groupadd --gid 10001 portal \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin portal
WORKDIR /app
COPY --from=build /app/.venv .venv
COPY app.py wsgi.py gunicorn.conf.py ./
COPY portal portal
COPY jobs jobs
COPY templates templates
COPY static static
RUN python -m compileall -q app.py wsgi.py gunicorn.conf.py portal jobs
USER 10001:10001
EXPOSE 8000
# The web server's. Worker and sweep have none (deploy/compose.yaml says why): run them with --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/live', timeout=4)"]
CMD ["gunicorn", "wsgi:app"]
