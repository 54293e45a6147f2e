# SPDX-License-Identifier: Apache-2.0
"""CHAP and digests with open-iscsi: one way, mutual, and for discovery, every CHAP algorithm and every digest setting that
iscsid offers, and the messages and exit codes that people know when a secret is wrong."""
import lab
from lab import sh

ACCOUNT, MUTUAL = ("labuser", "labsecret12345"), ("labtarget", "targetsecret678")

VM = {"mutants": {"open-login": {"drop": ["--chap-user", "--chap-secret-file", "--mutual-chap-user",
                                          "--mutual-chap-secret-file"]},
                  "open-discovery": {"drop": ["--discovery-chap-user", "--discovery-chap-secret-file",
                                              "--mutual-discovery-chap-user", "--mutual-discovery-chap-secret-file"]},
                  "no-digests": {"wire": "no_digest"}}}

ALGORITHMS = {"MD5": 5, "SHA1": 6, "SHA256": 7, "SHA3-256": 8}   # numbers: IANA PPP authentication algorithms
DIGESTS = {"None": "None", "CRC32C": "CRC32C", "CRC32C,None": "CRC32C", "None,CRC32C": "None"}
LOGIN_REFUSED = """
Logging in to [iface: default, target: {iqn}, portal: {address},3260]
iscsiadm: Could not login to [iface: default, target: {iqn}, portal: {address},3260].
iscsiadm: initiator reported error ({reason})
iscsiadm: Could not log into all portals
"""
target, address = {}, ""


def discovery_record(**values):
    portal = target["portals"][0]
    sh(["iscsiadm", "-m", "discoverydb", "-t", "st", "-p", portal, "-o", "new"], show=False)
    for name, value in {"authmethod": "CHAP", **values}.items():
        sh(["iscsiadm", "-m", "discoverydb", "-t", "st", "-p", portal, "-o", "update", "-n",
            f"discovery.sendtargets.auth.{name}", "-v", value], show=False)
    return sh(["iscsiadm", "-m", "discoverydb", "-t", "st", "-p", portal, "--discover"], code=None)


def refused_discovery(done):
    lab.same_shape(done.out, """
iscsiadm: Login failed to authenticate with target 
iscsiadm: discovery login to {address} rejected: initiator failed authorization
iscsiadm: Could not perform SendTargets discovery: iSCSI login failed due to authorization failure
""", address=address)
    lab.check(done.code == 24, "discovery ends with 24")


def served():
    global address
    target.update(lab.serve(disks=["64M"], chap=ACCOUNT, mutual=MUTUAL, discovery=ACCOUNT, mutual_discovery=MUTUAL, proxied=True))
    address = target["portals"][0].split(":")[0]
    lab.iscsid()


def discovery_with_chap():
    refused_discovery(lab.discover(target, code=None))
    refused_discovery(discovery_record(username=ACCOUNT[0], password="not-the-password"))
    refused_discovery(discovery_record(username="somebody", password=ACCOUNT[1]))
    done = discovery_record(username=ACCOUNT[0], password=ACCOUNT[1])
    lab.same_shape(done.out, "{portal},1 {iqn}", portal=target["portals"][0], iqn=target["iqn"])


def discovery_with_mutual_chap():
    done = discovery_record(username=ACCOUNT[0], password=ACCOUNT[1], username_in=MUTUAL[0], password_in="not-its-password")
    lab.same_shape(done.out, """
iscsiadm: failing authentication, received incorrect CHAP response from target 
iscsiadm: Login authentication failed with target , Authentication request failed
iscsiadm: discovery login to {address} failed, giving up 5
iscsiadm: Could not perform SendTargets discovery: encountered non-retryable iSCSI login failure
""", address=address)
    lab.check(done.code == 19, "discovery ends with 19")
    done = discovery_record(username=ACCOUNT[0], password=ACCOUNT[1], username_in=MUTUAL[0], password_in=MUTUAL[1])
    lab.same_shape(done.out, "{portal},1 {iqn}", portal=target["portals"][0], iqn=target["iqn"])


def refused_login(code, reason):
    done = lab.node(target, "--login", code=None)
    lines = "\n".join(sorted(done.out.splitlines(), key=lambda line: not line.startswith("Logging")))
    lab.same_shape(lines, LOGIN_REFUSED, iqn=target["iqn"], address=address, reason=reason)
    lab.check(done.code == code, f"login ends with {code}")
    sh("iscsiadm -m session", code=21)


def use(user="", password="", user_in="", password_in=""):
    lab.update(target, node__session__auth__authmethod="CHAP" if user else "None", node__session__auth__username=user,
               node__session__auth__password=password, node__session__auth__username_in=user_in,
               node__session__auth__password_in=password_in)


def chap_refuses_the_wrong():
    lab.allow(r"detected conn error \(1020\)")   # the kernel's word for a connection that the target closed
    refused = (24, "24 - iSCSI login failed due to authorization failure")
    refused_login(*refused)
    use(ACCOUNT[0], "not-the-password")
    refused_login(*refused)
    use("somebody", ACCOUNT[1])
    refused_login(*refused)
    refused = (19, "19 - encountered non-retryable iSCSI login failure")
    use(*ACCOUNT, MUTUAL[0], "not-its-password")
    refused_login(*refused)
    use(*ACCOUNT, "another-target", MUTUAL[1])
    refused_login(*refused)


def works(device, seed):
    """Writes and reads back a megabyte past the caches, and compares it with what the host sees."""
    data = lab.random.Random(seed).randbytes(1 << 20)
    with open(device, "r+b", buffering=0) as f:
        f.write(data)
        lab.os.fsync(f.fileno())
    lab.drop_caches()
    with open(device, "rb") as f:
        lab.check(f.read(len(data)) == data, "a megabyte is read back")
    lab.check(lab.host.digest(length=len(data)) == lab.hashlib.sha256(data).hexdigest(), "the host sees the same megabyte")


def chap_and_mutual_chap_log_in():
    for account in (ACCOUNT, (*ACCOUNT, *MUTUAL)):
        use(*account)
        works(lab.login(target), len(account))
        done = sh("iscsiadm -m session -P 2")
        lab.expect(done.out, rf"^\t\tusername: {ACCOUNT[0]}$", r"^\t\tpassword: \*{8}$")
        lab.logout(target)


def every_algorithm_that_iscsid_offers():
    for name, number in ALGORITHMS.items():
        lab.update(target, node__session__auth__chap_algs=name)
        before = lab.host.login_text(portal=target["portals"][0])
        lab.login(target)
        text = lab.host.login_text(portal=target["portals"][0])[len(before):]
        lab.check(f"CHAP_A={number}\0CHAP_I=" in text, f"{name} was used, by the wire")
        lab.logout(target)
    lab.update(target, node__session__auth__chap_algs="SHA3-256,SHA256,SHA1,MD5")


def every_digest_setting():
    for setting, result in DIGESTS.items():
        lab.update(target, **{"node__conn[0]__iscsi__HeaderDigest": setting, "node__conn[0]__iscsi__DataDigest": setting})
        device = lab.login(target)
        done = sh("iscsiadm -m session -P 2")
        lab.expect(done.out, rf"^\t\tHeaderDigest: {result}$", rf"^\t\tDataDigest: {result}$")
        works(device, setting)
        done = sh("iscsiadm -m session -s", show=False)
        lab.expect(done.out, r"^\tdigest_err: 0$", r"^\ttimeout_err: 0$")
        lab.logout(target)


if __name__ == "__main__":
    lab.main(served, discovery_with_chap, discovery_with_mutual_chap, chap_refuses_the_wrong, chap_and_mutual_chap_log_in,
             every_algorithm_that_iscsid_offers, every_digest_setting)
