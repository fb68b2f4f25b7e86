# outdial with a Postgres of its own, used when no DATABASE_URL (and no DB_*) is given.
#
#   docker build -t call-handling-service .
#   docker run -d -p 3000:3000 --env-file .env call-handling-service
#
# The first start on an empty database makes an admin key and prints it once: docker logs <container>.
# Keep the private database with -v outdial:/var/lib/outdial; give the end time with docker stop -t 30.

FROM rust:1.95.0-bookworm AS build
WORKDIR /src

# The dependencies first, with an empty program: a layer that changes only with the lock file.
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo .cargo
RUN mkdir -p src migrations tests/it \
 && echo 'fn main() {}' > src/main.rs \
 && echo 'fn main() {}' > tests/it/main.rs \
 && touch src/lib.rs \
 && cargo build --release --locked \
 && rm -r src

COPY config.toml ./
COPY .sqlx .sqlx
COPY migrations migrations
COPY sql sql
COPY src src
# cargo goes by times, and the copied files are older than the empty program.
RUN touch src/main.rs src/lib.rs \
 && cargo build --release --locked \
 && strip --strip-debug target/release/outdial

FROM debian:12.12-slim
# Postgres is started by outdial itself, in its own folder; Debian's cluster is not wanted.
RUN apt-get update \
 && apt-get install -y --no-install-recommends postgresql-common \
 && sed -ri 's/^#?\s*create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf \
 && apt-get install -y --no-install-recommends postgresql tzdata ca-certificates curl \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --user-group --home-dir /var/lib/outdial --shell /usr/sbin/nologin outdial \
 && install -d -o outdial -g outdial -m 700 /var/lib/outdial
COPY --from=build /src/target/release/outdial /usr/local/bin/outdial
COPY LICENSE /usr/share/doc/outdial/LICENSE

USER outdial
WORKDIR /var/lib/outdial
ENV OUTDIAL_SERVER__BIND=0.0.0.0 \
    OUTDIAL_DATABASE__DATA_DIR=/var/lib/outdial
VOLUME /var/lib/outdial
EXPOSE 3000
# The start of a Postgres that was killed may take a while; 503 says that the database is away.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD curl -fsS -o /dev/null "http://127.0.0.1:${OUTDIAL_SERVER__PORT:-${PORT:-3000}}/health"
ENTRYPOINT ["outdial"]
