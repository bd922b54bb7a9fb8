"""What a secret looks like where it has leaked."""

import base64
import json
from urllib.parse import quote, quote_plus


def forms_of(secret: str) -> list[bytes]:
    """Return a secret as it is, as an URL and JSON spell it, and what its base64 holds wherever it begins."""
    spelled = [secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]]
    encoded = [base64.b64encode(b"x" * before + secret.encode())[4 * (before > 0) : -4] for before in range(3)]
    return [*(text.encode() for text in spelled), *encoded]
