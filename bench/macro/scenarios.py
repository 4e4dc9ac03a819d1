"""What is asked of every proxy: a topology (pools, routes), a kind of request, what happens meanwhile.

A new scenario is a new entry of SCENARIOS. A new kind of topology is a function that returns a
Topology from the origin's ports; every peer writes its configuration from that alone.
"""

from dataclasses import dataclass, field, replace

# The canary's share in percent.
SHARE = 10

PLAIN_BODY = b"Hello, world\n"

# Consumers of the scenario `sticky`, each with a key; 10 % of them are on the canary, as chance has it.
CONSUMERS = 1000


def consumer(number):
    """Their names."""
    return f"consumer-{number:04}"


def key(number):
    """The key of a consumer."""
    return f"key-of-consumer-{number:04}"


# The canary's share while it changes: another each second, over and over. Their mean is far from where it stood before.
CHANGE_SECONDS = 1
CHANGING_SHARES = [20, 30, 40, 30]

# 1,000 routes over 100 pools, two origins each.
ROUTES = 1000
POOLS = 100


@dataclass(frozen=True)
class Pool:
    """A named pool; its first member is the stable release, its second the canary."""

    name: str
    stable: int
    canary: int


@dataclass(frozen=True)
class Topology:
    pools: list[Pool]
    routes: list[tuple[str, Pool]]  # path prefix -> pool
    # Who asks is told by a key, and the split is by consumer: so many there are.
    consumers: int = 0

    def pool_of(self, path):
        """Longest matching prefix."""
        return max((r for r in self.routes if path.startswith(r[0])), key=lambda r: len(r[0]))[1]


def split(ports):
    """One route, one pool, two origins."""
    pool = Pool("shop", ports[0], ports[1])
    return Topology([pool], [("/", pool)])


def split_by_consumer(ports):
    """One route; each consumer is on one of two pools of one origin."""
    return replace(split(ports), consumers=CONSUMERS)


def many_routes(ports):
    """1,000 routes to 100 pools; the routes of a pool are not neighbours."""
    pools = [Pool(f"pool-{i:02}", ports[2 * i], ports[2 * i + 1]) for i in range(POOLS)]
    return Topology(pools, [(f"/route-{i:03}", pools[i % POOLS]) for i in range(ROUTES)])


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    topology: object = split
    paths: list[str] = field(default_factory=lambda: ["/"])
    method: str = "GET"
    body: bytes = b""
    answer: bytes = PLAIN_BODY
    close: bool = False
    tls: bool = False
    # What asks: wrk; h2load, by HTTP/2; or bench/load, by a full handshake for each request.
    load: str = "wrk"
    # What happens each second meanwhile: nothing; "share", another share by whatever way costs least; or "reload", the
    # same by a new configuration as a whole.
    changes: str = ""
    # Requests of the check. With many routes each pool must see whole cycles of its weights.
    check_requests: int = 2000

    @property
    def ports(self):
        """How many ports of the origin are used."""
        return 2 * POOLS if self.topology is many_routes else 2

    @property
    def by_consumer(self):
        """Whether requests have keys of consumers."""
        return self.topology is split_by_consumer

    @property
    def cycle(self):
        """After so many requests they begin again."""
        return CONSUMERS if self.by_consumer else len(self.paths)

    def headers(self, number):
        """Header fields of the check's request of this number."""
        fields = {"Connection": "close"} if self.close else {}
        if self.by_consumer:
            fields["apikey"] = key(number % CONSUMERS)
        return fields

    def request(self, number):
        """The request of this number as bytes of HTTP/1.1."""
        fields = {"Host": "127.0.0.1", **self.headers(number)}
        if self.body:
            fields["Content-Length"] = len(self.body)
        head = f"{self.method} {self.paths[number % len(self.paths)]} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return head.encode() + b"\r\n" + self.body

    @property
    def echo_path(self):
        return self.paths[0].rstrip("/") + "/__echo"


def letters(kib):
    """The origin's body for a path that ends with /<kib>k."""
    alphabet = b"abcdefghijklmnopqrstuvwxyz"
    size = kib * 1024
    return (alphabet * (size // len(alphabet) + 1))[:size]


_ALL = [
    Scenario("get", "small GET, split 90/10"),
    Scenario(
        "routes",
        f"small GET over {ROUTES} routes and {POOLS} pools, each split 90/10",
        topology=many_routes,
        paths=[f"/route-{i:03}/item" for i in range(ROUTES)],
        check_requests=4 * ROUTES,
    ),
    Scenario("post4k", "POST of 4 KiB, split 90/10", method="POST", body=letters(4)),
    Scenario("get64k", "GET of 64 KiB, split 90/10", paths=["/64k"], answer=letters(64)),
    Scenario(
        "sticky",
        f"small GET by one of {CONSUMERS} consumers with a key, 10 % of the consumers on a canary",
        topology=split_by_consumer,
        check_requests=2 * CONSUMERS,
    ),
    Scenario("close", "small GET, a new connection each, split 90/10", close=True),
    Scenario("tls", "small GET by HTTPS over kept connections, split 90/10", tls=True),
    Scenario(
        "tlsnew",
        "small GET by HTTPS, a new connection with a full handshake each, split 90/10",
        tls=True,
        close=True,
        load="handshakes",
        check_requests=1000,
    ),
    Scenario("h2", "small GET by HTTP/2 over TLS, split 90/10", tls=True, load="h2load"),
    Scenario("rollout", "small GET while the canary's share changes each second", changes="share"),
    Scenario("reload", "small GET while the configuration is reloaded each second", changes="reload"),
]
SCENARIOS = {scenario.name: scenario for scenario in _ALL}


def requests_file(scenario):
    """The scenario's requests for bench/load."""
    requests = [scenario.request(number) for number in range(scenario.cycle)]
    return b"".join(b"%d\n%s" % (len(request), request) for request in requests)


def wrk_script(scenario):
    """The Lua script that makes wrk send the scenario's requests and report exact figures.

    `request` is defined only where requests differ: without it wrk formats the request once.
    """
    lines = []
    if scenario.method != "GET":
        lines.append(f'wrk.method = "{scenario.method}"')
    if scenario.body:
        lines.append(f'wrk.body = "{scenario.body.decode("ascii")}"')
    if scenario.close:
        lines.append('wrk.headers["Connection"] = "close"')
    each = None
    if scenario.by_consumer:
        each = [f'{{"/", {{apikey = "{key(number)}"}}}}' for number in range(CONSUMERS)]
    elif len(scenario.paths) > 1:
        each = [f'{{"{path}"}}' for path in scenario.paths]
    if each:
        listed = ",\n".join(f"  {one}" for one in each)
        lines.append(
            f"local each = {{\n{listed}\n}}\n"
            """local requests, next_request = {}, 0
init = function(args)
  for i, one in ipairs(each) do
    for name, value in pairs(one[2] or {}) do wrk.headers[name] = value end
    requests[i] = wrk.format(nil, one[1])
  end
end
request = function()
  next_request = next_request % #requests + 1
  return requests[next_request]
end"""
        )
    lines.append(
        """done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'figures {"requests":%d,"duration_us":%d,"bytes":%d,"p50_us":%d,"p90_us":%d,"p99_us":%d,"p999_us":%d,' ..
    '"max_us":%d,"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}\\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(90),
    latency:percentile(99), latency:percentile(99.9), latency.max,
    e.connect, e.read, e.write, e.status, e.timeout))
end"""
    )
    return "\n".join(lines) + "\n"
