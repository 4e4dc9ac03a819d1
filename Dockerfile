# docker build -t serin .
# docker run -p 8000:8000 -p 8007:8007 -v "$PWD/conf:/etc/serin:ro" serin

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends bolt-22 cmake gcc libc6-dev make python3 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# By the profile that is kept. llvm-bolt leaves no debug information behind that would have to be stripped.
RUN bench/pgo --stored \
    && install -D target/pgo/serin /image/serin \
    && mkdir /image/state

# glibc and libgcc, no shell, no package manager; the user is 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /image/serin /usr/local/bin/serin
COPY --from=build --chown=65532:65532 /image/state /var/lib/serin
USER 65532:65532
# Where the store (serin.redb) is made, and `server.secret_file` when a secret is needed and none is set. Mount a volume here
# to keep them; where nothing can be written, run with SERIN_SERVER_STORE_KIND=memory.
WORKDIR /var/lib/serin
# Probes and scrapers come from outside. The healthcheck asks the same address.
ENV SERIN_SERVER_STATUS_ADDRESS=0.0.0.0:8007
# Some AMD processors and this glibc (2.36) copy very slowly by chance, see docs/operations.md.
ENV GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold=1048576
EXPOSE 8000 8007
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=4s --start-period=10s CMD ["/usr/local/bin/serin", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/serin"]
CMD ["run", "/etc/serin/serin.yaml"]
