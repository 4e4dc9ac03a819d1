"""Does a proxy do the work that is compared? Asked before anything is measured.

The requests of the scenario are sent one after the other over a few connections, every answer is read,
and the split is counted at the origin.
"""

import http.client
import ipaddress

# Connections used by the check, so that every worker of a proxy is likely to get some.
CONNECTIONS = 8

# Bounds of the canary's share of 10 %. Not exact, because the peers count per worker and Envoy begins its
# schedule at random places; every proxy that honours the weights is well inside.
SHARE_MIN = 0.09
SHARE_MAX = 0.11


def check(scenario, topology, origin, port):
    """Returns the problems found (none: the proxy does the work) and the facts seen."""
    clients = [http.client.HTTPConnection("127.0.0.1", port, timeout=10) for _ in range(CONNECTIONS)]
    try:
        problems = check_forwarding(scenario, clients[0])
        before = origin.counts()
        problems += check_answers(scenario, topology, clients)
        seen = origin.counts() - before
    except (OSError, http.client.HTTPException) as error:
        return [f"{type(error).__name__}: {error}"], {}
    finally:
        for client in clients:
            client.close()

    canaries = [pool.canary for pool in topology.pools]
    share = seen.share(canaries)
    connections = sum(seen.connections.values())
    if seen.total() != scenario.check_requests:
        problems.append(f"{scenario.check_requests} requests were {seen.total()} at the origin")
    if seen.refused:
        problems.append(f"the origin refused {seen.refused} requests")
    if not SHARE_MIN <= share <= SHARE_MAX:
        problems.append(f"the canary got {share:.1%} of the requests instead of 10 %")
    if connections > scenario.ports * CONNECTIONS:
        problems.append(f"connections to the origin are not kept: {connections} for {seen.total()} requests")
    facts = {"requests": seen.total(), "canary_share": share, "origin_connections": connections}
    return problems, facts


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


def check_answers(scenario, topology, clients):
    """Status, body, pool and connection handling of every answer; the first fault ends it."""
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
        if answer.headers.get("X-Port") not in (str(pool.stable), str(pool.canary)):
            return [f"{where}: answered by port {answer.headers.get('X-Port')}, not of pool {pool.name}"]
        if answer.will_close != scenario.close:
            kept = "closed" if answer.will_close else "kept"
            return [f"{where}: the client's connection was {kept}"]
    return []
