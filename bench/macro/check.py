"""Does a proxy do the work that is compared? Asked before anything is measured.

The requests of the scenario are sent one after the other over a few connections, every answer is read,
and the split is counted at the origin.
"""

import http.client
import ipaddress
import time

from peers import ChangeError, with_share
from scenarios import CHANGE_SECONDS
from secure import CIPHER_SUITE, client_context, tickets

# Connections used by the check, so that every worker of a proxy is likely to get some.
CONNECTIONS = 8

# Bounds of the canary's share of 10 %. Not exact, because the peers count per worker and Envoy begins its
# schedule at random places; every proxy that honours the weights is well inside.
SHARE_MIN = 0.09
SHARE_MAX = 0.11

# A change must be in force within this time. The share that is asked for is far from the one before.
CHANGE_LIMIT_SECONDS = 10
OTHER_SHARE = 40
OTHER_SHARE_TOLERANCE = 0.05
SAMPLE = 200

# What sends as many session tickets as all others makes as costly a handshake.
TICKETS = 2


def check(scenario, peer, setup, origin):
    """Returns the problems found (none: the proxy does the work) and the facts seen."""
    topology = setup.topology
    facts = {}
    problems = check_tls(setup, facts) if scenario.tls else []
    clients = [connection(setup) for _ in range(CONNECTIONS)]
    try:
        problems += check_forwarding(scenario, clients[0])
        if peer.is_sticky(scenario):
            problems += check_unknown_key(clients[0], scenario)
        before = origin.counts()
        problems += check_answers(scenario, topology, clients, peer.is_sticky(scenario))
        seen = origin.counts() - before
    except (OSError, http.client.HTTPException) as error:
        return [*problems, f"{type(error).__name__}: {error}"], facts
    finally:
        for client in clients:
            client.close()

    share = seen.share([pool.canary for pool in topology.pools])
    connections = sum(seen.connections.values())
    if seen.total() != scenario.check_requests:
        problems.append(f"{scenario.check_requests} requests were {seen.total()} at the origin")
    if seen.refused:
        problems.append(f"the origin refused {seen.refused} requests")
    if not SHARE_MIN <= share <= SHARE_MAX:
        problems.append(f"the canary got {share:.1%} of the requests instead of 10 %")
    # With a close each, a client's next connection may find the one to the origin not yet given back.
    if connections > scenario.ports * CONNECTIONS:
        problems.append(f"connections to the origin are not kept: {connections} for {seen.total()} requests")
    return problems, {**facts, "requests": seen.total(), "canary_share": share, "origin_connections": connections}


def connection(setup):
    if setup.scenario.tls:
        return http.client.HTTPSConnection("127.0.0.1", setup.port, timeout=10, context=client_context())
    return http.client.HTTPConnection("127.0.0.1", setup.port, timeout=10)


def check_tls(setup, facts):
    """Version, cipher suite and session tickets; whether HTTP/2 is spoken where it is asked for."""
    problems = []
    for protocol in ("http/1.1", "h2"):
        client = http.client.HTTPSConnection("127.0.0.1", setup.port, timeout=10, context=client_context([protocol]))
        try:
            client.connect()
            version, chosen = client.sock.version(), client.sock.selected_alpn_protocol()
        except OSError as error:
            return [f"TLS: {error}"]
        finally:
            client.close()
        if version != "TLSv1.3" or chosen != protocol:
            problems.append(f"asked for {protocol} by TLS 1.3 it speaks {chosen} by {version}")
    facts["session_tickets"] = tickets(setup.port, CIPHER_SUITE)
    if facts["session_tickets"] != TICKETS:
        problems.append(f"{facts['session_tickets']} session tickets instead of {TICKETS}")
    return problems


def check_forwarding(scenario, client):
    """What arrives at the origin, shown by its echo."""
    headers = {name: value for name, value in scenario.headers(0).items() if name != "Connection"}
    client.request(scenario.method, scenario.echo_path, body=scenario.body or None, headers=headers)
    answer = client.getresponse()
    received = answer.read()
    if answer.status != 200:
        return [f"{scenario.echo_path}: status {answer.status}"]
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), []).append(value.strip())
    problems = []
    if lines[0] != f"{scenario.method} {scenario.echo_path} HTTP/1.1":
        problems.append(f"the origin received `{lines[0]}`")
    forwarded_for = headers.get("x-forwarded-for", [])
    if not is_one_address(forwarded_for):
        problems.append(f"X-Forwarded-For at the origin: {forwarded_for}")
    if "close" in headers.get("connection", []):
        problems.append("the proxy asks the origin to close the connection")
    if body != scenario.body:
        problems.append(f"a body of {len(scenario.body)} bytes arrived as {len(body)} bytes or changed")
    return problems


def is_one_address(values):
    """One address, once. Which one is left open: Envoy names the machine's own for a client on loopback."""
    try:
        return len(values) == 1 and bool(ipaddress.ip_address(values[0]))
    except ValueError:
        return False


def check_unknown_key(client, scenario):
    """Nobody passes without a key of a consumer."""
    problems = []
    for fields in ({}, {"apikey": "nobody's"}):
        client.request("GET", scenario.paths[0], headers=fields)
        answer = client.getresponse()
        answer.read()
        if answer.status != 401:
            problems.append(f"with {fields or 'no key'}: status {answer.status} instead of 401")
    return problems


def check_answers(scenario, topology, clients, is_sticky):
    """Status, body, pool, side and connection handling of every answer; the first fault ends it."""
    sides = {}
    for number in range(scenario.check_requests):
        path = scenario.paths[number % len(scenario.paths)]
        client = clients[number % len(clients)]
        client.request(scenario.method, path, body=scenario.body or None, headers=scenario.headers(number))
        answer = client.getresponse()
        body = answer.read()
        where = f"request {number + 1}, {path}"
        if answer.status != 200:
            return [f"{where}: status {answer.status}"]
        if body != scenario.answer:
            return [f"{where}: {len(body)} bytes instead of the {len(scenario.answer)} expected, or other ones"]
        pool = topology.pool_of(path)
        port = answer.headers.get("X-Port")
        if port not in (str(pool.stable), str(pool.canary)):
            return [f"{where}: answered by port {port}, not of pool {pool.name}"]
        # Each consumer asks twice or more, by another connection each time.
        if is_sticky and sides.setdefault(number % scenario.cycle, port) != port:
            return [f"{where}: the consumer changed sides"]
        if answer.will_close != scenario.close:
            kept = "closed" if answer.will_close else "kept"
            return [f"{where}: the client's connection was {kept}"]
    return []


def check_change(peer, setup, program, directory, origin):
    """Another share comes into force, and the one before again. Returns problems and the longest time that took."""
    longest = 0.0
    for share, tolerance in ((OTHER_SHARE, OTHER_SHARE_TOLERANCE), (setup.share, SHARE_MAX - setup.share / 100)):
        # A proxy that still works at the last change may miss the next one; the scenario leaves it as long.
        time.sleep(CHANGE_SECONDS)
        begin = time.monotonic()
        try:
            peer.change(with_share(setup, share), program, directory)
        except (ChangeError, OSError) as error:
            return [f"a change failed: {error}"], 0.0
        seen = None
        while seen is None or abs(seen - share / 100) > tolerance:
            if time.monotonic() - begin > CHANGE_LIMIT_SECONDS:
                return [f"{share} % asked for, the canary gets {seen:.1%}"], 0.0
            before = time.monotonic()
            seen = sample(setup, origin)
        longest = max(longest, before - begin)
    return [], longest


def sample(setup, origin):
    """The share that the canary gets of a few requests."""
    before = origin.counts()
    client = connection(setup)
    try:
        for number in range(SAMPLE):
            client.request("GET", setup.scenario.paths[0])
            client.getresponse().read()
    except (OSError, http.client.HTTPException):
        # A reload may close the connection.
        pass
    finally:
        client.close()
    return (origin.counts() - before).share([pool.canary for pool in setup.topology.pools])


def check_share(setup, origin):
    """After all changes: is the share again what it was before them?"""
    # Old processes may have gone on for a moment.
    time.sleep(CHANGE_SECONDS)
    client = connection(setup)
    before = origin.counts()
    try:
        for number in range(setup.scenario.check_requests):
            client.request("GET", setup.scenario.paths[0])
            answer = client.getresponse()
            answer.read()
            if answer.status != 200:
                return [f"after the changes: status {answer.status}"]
    except (OSError, http.client.HTTPException) as error:
        return [f"after the changes: {type(error).__name__}: {error}"]
    finally:
        client.close()
    share = (origin.counts() - before).share([pool.canary for pool in setup.topology.pools])
    if not SHARE_MIN <= share <= SHARE_MAX:
        return [f"after the changes the canary got {share:.1%} of the requests instead of {setup.share} %"]
    return []
