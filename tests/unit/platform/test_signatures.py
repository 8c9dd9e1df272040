"""Who sent a webhook: the senders' own examples hold, and whatever else comes has an answer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_platform.domain import signatures
from rave_platform.domain.signatures import (
    TOLERANCE,
    Authentic,
    GitLabHook,
    NotAuthentic,
    ProjectHmac,
    Proven,
    RefusalReason,
    StandardWebhook,
    WebhookRequest,
    authenticate,
)

if TYPE_CHECKING:
    from rave_platform.domain.signatures import Scheme

NOW = 1_700_000_000.0
KEY, OLD_KEY = b"k" * 32, b"o" * 32
BODY = b'{"object_kind":"push"}'

# The header that each scheme of a body's HMAC looks at, and what stands before the digest.
BODY_SCHEMES = {
    "github": (signatures.github, "x-hub-signature-256", "sha256="),
    "gitea": (signatures.gitea, "x-gitea-signature", ""),
    "forgejo": (signatures.gitea, "x-forgejo-signature", ""),
    "pagure": (signatures.pagure, "x-pagure-signature-256", ""),
}


def reason(request: WebhookRequest, scheme: Scheme, now: float = NOW) -> RefusalReason:
    found = authenticate(request, scheme, now)
    assert isinstance(found, NotAuthentic)
    return found.reason


def hexed(body: bytes, key: bytes = KEY) -> str:
    return hmac.new(key, body, hashlib.sha256).hexdigest()


def standard(
    body: bytes = BODY, *, key: bytes = KEY, name: str = "msg_1", sent: float = NOW
) -> WebhookRequest:
    signed = f"{name}.{sent:.0f}.".encode() + body
    mac = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return WebhookRequest(
        {
            "webhook-id": name,
            "webhook-timestamp": f"{sent:.0f}",
            "webhook-signature": f"v1,{mac}",
        },
        body,
    )


def with_header(request: WebhookRequest, name: str, value: str | None) -> WebhookRequest:
    headers = {k: v for k, v in request.headers.items() if k != name}
    return replace(request, headers=headers if value is None else {**headers, name: value})


# --- the senders' own examples


def test_the_example_of_github_s_documentation_holds() -> None:
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    request = WebhookRequest({"x-hub-signature-256": f"sha256={digest}"}, b"Hello, World!")
    scheme = signatures.github((b"It's a Secret to Everybody",))
    assert authenticate(request, scheme, NOW) == Authentic("", Proven.BODY)


def test_the_example_of_the_standard_webhooks_specification_holds() -> None:
    key = signatures.parse_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    request = WebhookRequest(
        {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
        b'{"test": 2432232314}',
    )
    found = authenticate(request, StandardWebhook((key,)), 1614265330.0)
    assert found == Authentic("msg_p5jXN8AQM9LWM0D4loKWxJek", Proven.BODY_AND_ID)


# --- a body's HMAC


@pytest.mark.parametrize("name", BODY_SCHEMES)
def test_a_signed_body_is_taken_and_no_other(name: str) -> None:
    make, header, prefix = BODY_SCHEMES[name]
    scheme = make((KEY,))
    good = WebhookRequest({header: prefix + hexed(BODY)}, BODY)
    assert isinstance(authenticate(good, scheme, NOW), Authentic)
    assert reason(replace(good, body=BODY + b" "), scheme) is RefusalReason.WRONG_SIGNATURE
    other = WebhookRequest({header: prefix + hexed(BODY, OLD_KEY)}, BODY)
    assert reason(other, scheme) is RefusalReason.WRONG_SIGNATURE
    assert reason(WebhookRequest({}, BODY), scheme) is RefusalReason.NO_SIGNATURE


@pytest.mark.parametrize("name", BODY_SCHEMES)
def test_both_secrets_count_while_one_replaces_the_other(name: str) -> None:
    make, header, prefix = BODY_SCHEMES[name]
    for key in (KEY, OLD_KEY):
        request = WebhookRequest({header: prefix + hexed(BODY, key)}, BODY)
        assert isinstance(authenticate(request, make((KEY, OLD_KEY)), NOW), Authentic)


@pytest.mark.parametrize("name", BODY_SCHEMES)
@pytest.mark.parametrize("broken", ["", "zz", "00", "A" * 64, "é" * 64, "0" * 63, "0" * 65, "\x00"])
def test_a_malformed_digest_has_a_reason(name: str, broken: str) -> None:
    make, header, prefix = BODY_SCHEMES[name]
    given_value = prefix + broken
    expected = RefusalReason.MALFORMED_SIGNATURE if given_value else RefusalReason.NO_SIGNATURE
    assert reason(WebhookRequest({header: given_value}, BODY), make((KEY,))) is expected


def test_the_sha1_headers_prove_nothing() -> None:
    mac = hmac.new(KEY, BODY, hashlib.sha1).hexdigest()
    for make, header in (
        (signatures.github, "x-hub-signature"),
        (signatures.pagure, "x-pagure-signature"),
    ):
        for value in (mac, f"sha1={mac}"):
            request = WebhookRequest({header: value}, BODY)
            assert reason(request, make((KEY,))) is RefusalReason.NO_SIGNATURE


def test_a_good_gitea_signature_does_not_stand_in_for_a_bad_one_of_forgejo() -> None:
    request = WebhookRequest(
        {"x-gitea-signature": hexed(BODY), "x-forgejo-signature": "0" * 64}, BODY
    )
    assert reason(request, signatures.gitea((KEY,))) is RefusalReason.WRONG_SIGNATURE


# --- a key for each project, which follows from a secret

PROJECTS = ProjectHmac((KEY, OLD_KEY))


def of_project(
    header: str, said: str = "", *, secret: bytes = KEY, body: bytes | None = None
) -> WebhookRequest:
    """Return what Pagure sends of a project; the header says which, and so does the body."""
    if body is None:
        body = json.dumps({"msg": {"project_fullname": said or header}}).encode()
    digest = hexed(body, signatures.project_key(secret, header))
    return WebhookRequest(
        {"x-pagure-project": header, "x-pagure-signature-256": digest}, body
    )  # fmt: skip


@pytest.mark.parametrize("secret", [KEY, OLD_KEY])
@pytest.mark.parametrize("name", ["shop", "team/shop"])
def test_each_project_signs_with_its_own_key(name: str, secret: bytes) -> None:
    request = of_project(name, secret=secret)
    assert authenticate(request, PROJECTS, NOW) == Authentic("", Proven.BODY)
    for changed in (
        with_header(request, "x-pagure-project", "other"),
        with_header(request, "x-pagure-project", None),
        replace(request, body=request.body + b" "),
        of_project(name, secret=b"x" * 32),
    ):
        assert reason(changed, PROJECTS) is RefusalReason.WRONG_SIGNATURE


@pytest.mark.parametrize("body", [None, b"{}", b'{"msg": {"project_fullname": 1}}'])
def test_who_has_the_key_of_one_project_says_nothing_of_another(body: bytes | None) -> None:
    assert reason(of_project("mine", "theirs", body=body), PROJECTS) is RefusalReason.WRONG_PROJECT


def test_what_cannot_be_read_is_left_to_whoever_reads_it() -> None:
    assert isinstance(authenticate(of_project("shop", body=b"["), PROJECTS, NOW), Authentic)


def test_what_a_repetition_is_told_by_depends_on_what_is_proven() -> None:
    request = WebhookRequest(
        {"x-hub-signature-256": "sha256=" + hexed(BODY), "x-github-delivery": "d-1"}, BODY
    )
    assert authenticate(request, signatures.github((KEY,)), NOW) == Authentic("d-1", Proven.BODY)
    unreadable = with_header(request, "x-github-delivery", "d\n1")
    assert reason(unreadable, signatures.github((KEY,))) is RefusalReason.MALFORMED_ID


# --- Standard Webhooks


def test_a_standard_webhook_is_taken_with_either_key_and_among_other_signatures() -> None:
    scheme = StandardWebhook((KEY, OLD_KEY))
    for key in (KEY, OLD_KEY):
        request = standard(key=key)
        others = f"v1a,AAAA v1,AAAA v2,x {request.headers['webhook-signature']}"
        for form in (request, with_header(request, "webhook-signature", others)):
            assert authenticate(form, scheme, NOW) == Authentic("msg_1", Proven.BODY_AND_ID)


@pytest.mark.parametrize(
    ("header", "value", "expected"),
    [
        ("webhook-signature", None, RefusalReason.NO_SIGNATURE),
        ("webhook-signature", "v1", RefusalReason.WRONG_SIGNATURE),
        ("webhook-signature", "v1,", RefusalReason.WRONG_SIGNATURE),
        ("webhook-signature", "v1,é", RefusalReason.MALFORMED_SIGNATURE),
        ("webhook-signature", "v1,AAA", RefusalReason.MALFORMED_SIGNATURE),
        ("webhook-signature", "v2,AAAA", RefusalReason.MALFORMED_SIGNATURE),
        ("webhook-id", None, RefusalReason.NO_ID),
        ("webhook-id", "other", RefusalReason.WRONG_SIGNATURE),
        ("webhook-id", "a.b", RefusalReason.MALFORMED_ID),
        ("webhook-id", "x" * 201, RefusalReason.MALFORMED_ID),
        ("webhook-timestamp", None, RefusalReason.MALFORMED_TIMESTAMP),
        ("webhook-timestamp", "1e9", RefusalReason.MALFORMED_TIMESTAMP),
        ("webhook-timestamp", "٣", RefusalReason.MALFORMED_TIMESTAMP),
        ("webhook-timestamp", "9" * 400, RefusalReason.MALFORMED_TIMESTAMP),
        ("webhook-timestamp", "1700000001", RefusalReason.WRONG_SIGNATURE),
    ],
)
def test_what_is_wrong_with_a_standard_webhook_has_a_reason(
    header: str, value: str | None, expected: RefusalReason
) -> None:
    assert reason(with_header(standard(), header, value), StandardWebhook((KEY,))) is expected


@given(st.integers(-1000, 1000))
def test_the_window_for_replays_is_open_for_so_long_on_either_side(seconds: int) -> None:
    found = authenticate(standard(sent=NOW + seconds), StandardWebhook((KEY,)), NOW)
    if abs(seconds) <= TOLERANCE:
        assert isinstance(found, Authentic)
    else:
        late = RefusalReason.TOO_OLD if seconds < 0 else RefusalReason.TOO_NEW
        assert found == NotAuthentic(late)


def test_who_has_no_key_does_not_learn_our_clock() -> None:
    request = standard(key=OLD_KEY, sent=NOW - 10_000)
    assert reason(request, StandardWebhook((KEY,))) is RefusalReason.WRONG_SIGNATURE


@pytest.mark.parametrize(
    "text", ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_é", "whsec_AAAA",
             "whsec_" + base64.b64encode(b"x" * 65).decode()],
)  # fmt: skip
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"signing secret|not base64"):
        signatures.parse_key(text)


# --- GitLab

TOKEN = b"a token"


def test_gitlab_s_token_is_taken_and_no_other() -> None:
    scheme = GitLabHook((TOKEN, b"the one before"))
    for token in ("a token", "the one before"):
        request = WebhookRequest({"x-gitlab-token": token, "idempotency-key": "i-1"}, BODY)
        assert authenticate(request, scheme, NOW) == Authentic("i-1", Proven.SENDER)
    for token in ("a tokeN", "a token ", "x", "é", "\udcff"):
        refused = WebhookRequest({"x-gitlab-token": token}, BODY)
        assert reason(refused, scheme) is RefusalReason.WRONG_TOKEN
    assert reason(WebhookRequest({}, BODY), scheme) is RefusalReason.NO_SIGNATURE


def test_gitlab_s_id_and_time_alone_make_no_signed_webhook_of_one_with_a_token() -> None:
    # GitLab sends them with every delivery, https://gitlab.com/gitlab-org/gitlab/-/merge_requests/230944
    headers = {"x-gitlab-token": "a token", "webhook-id": "i-1", "webhook-timestamp": "17"}
    found = authenticate(WebhookRequest(headers, BODY), GitLabHook((TOKEN,)), NOW)
    assert found == Authentic("i-1", Proven.SENDER)


def test_a_signed_webhook_of_gitlab_is_taken_with_or_without_its_token() -> None:
    scheme = GitLabHook((TOKEN,), (KEY,))
    for request in (standard(), with_header(standard(), "x-gitlab-token", "a token")):
        assert authenticate(request, scheme, NOW) == Authentic("msg_1", Proven.BODY_AND_ID)


def test_where_gitlab_signs_its_token_alone_is_refused() -> None:
    scheme = GitLabHook((TOKEN,), (KEY,))
    unsigned = with_header(
        with_header(standard(), "webhook-signature", None), "x-gitlab-token", "a token"
    )
    assert reason(unsigned, scheme) is RefusalReason.DOWNGRADE
    bad = with_header(with_header(standard(), "webhook-signature", "v1,AAAA"), "x-gitlab-token",
                      "a token")  # fmt: skip
    assert reason(bad, scheme) is RefusalReason.WRONG_SIGNATURE


# --- whatever comes

SCHEMES = [
    signatures.github((KEY,)), signatures.gitea((KEY,)), signatures.pagure((KEY,)),
    PROJECTS, StandardWebhook((KEY,)), GitLabHook((TOKEN,)), GitLabHook((TOKEN,), (KEY,)),
]  # fmt: skip
HEADERS = [
    "x-hub-signature-256", "x-github-delivery", "x-gitea-signature", "x-forgejo-signature",
    "x-pagure-signature-256", "x-pagure-project", "x-gitlab-token", "idempotency-key", "webhook-id",
    "webhook-timestamp", "webhook-signature",
]  # fmt: skip
values = st.text(st.characters(codec=None)) | st.from_regex(
    r"(sha256=)?[0-9a-f]{64}|v1,[A-Za-z0-9+/=]{0,44}( v1,.*)?|[0-9]{1,12}", fullmatch=True
)


@given(st.dictionaries(st.sampled_from(HEADERS), values), st.binary(), st.sampled_from(SCHEMES))
def test_nothing_without_a_secret_is_taken_and_nothing_raises(
    headers: dict[str, str], body: bytes, scheme: Scheme
) -> None:
    assert isinstance(authenticate(WebhookRequest(headers, body), scheme, NOW), NotAuthentic)


@given(st.binary(), st.integers(0, 63), st.sampled_from("0123456789abcdef"))
def test_one_changed_digit_is_enough(body: bytes, at: int, digit: str) -> None:
    mac = hexed(body)
    changed = mac[:at] + digit + mac[at + 1 :]
    found = authenticate(
        WebhookRequest({"x-hub-signature-256": f"sha256={changed}"}, body),
        signatures.github((KEY,)),
        NOW,
    )
    assert isinstance(found, Authentic) == (changed == mac)


def test_no_secret_shows_where_a_scheme_is_printed() -> None:
    for scheme in SCHEMES:
        assert "kkkk" not in repr(scheme)
        assert "a token" not in repr(scheme)
