"""TLS between load and proxy: a certificate that all proxies show, and what all clients offer.

A proxy's cost depends on cipher suite and group, and the proxies prefer different ones. So clients offer one of each.
"""

import ssl
import subprocess

CERTIFICATE, KEY, PAIR = "site.crt", "site.key", "site.pem"
CIPHER_SUITE, GROUP = "TLS_AES_128_GCM_SHA256", "X25519"

# For wrk, which has no options for it: OpenSSL reads this file for every program (OPENSSL_CONF).
OPENSSL_CONF = f"""\
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = default
[default]
MinProtocol = TLSv1.3
Ciphersuites = {CIPHER_SUITE}
Groups = {GROUP}
"""


def make_certificate(directory):
    """A self-signed one for a key on P-256."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", KEY, "-out", CERTIFICATE, "-days", "30", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    pair = (directory / CERTIFICATE).read_bytes() + (directory / KEY).read_bytes()
    (directory / PAIR).write_bytes(pair)


def client_context(protocols=("http/1.1",)):
    """For Python's clients. Nobody has signed the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    return context


def tickets(port, suite):
    """How many session tickets a server sends after a handshake."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3", "-alpn", "http/1.1"]
    command += ["-ciphersuites", suite, "-ign_eof"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        output, _ = child.communicate(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", timeout=10)
    except subprocess.TimeoutExpired:
        child.kill()
        output, _ = child.communicate()
    return output.count(b"New Session Ticket arrived")
