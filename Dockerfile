# An Iris node in a container. Applications attach to the relay on loopback, so they share the
# node's network namespace (and --user is the key's owner, since nobody else may read it):
#   docker run --network host --user "$(id -u)" -v ~/network.pem:/key.pem:ro \
#     iris -net demo -rsa /key.pem
# The node is compiled, or the build fails; the image has no compiler.
FROM python:3.13-slim AS build
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev
WORKDIR /src
COPY pyproject.toml setup.py setup.cfg README.md LICENSE ./
COPY iris iris
RUN python -m venv /opt/iris && IRIS_COMPILE=1 /opt/iris/bin/pip install --no-cache-dir .

FROM python:3.13-slim
COPY --from=build /opt/iris /opt/iris
RUN useradd --system --create-home iris
USER iris
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/iris/bin/iris"]
CMD ["-help"]
