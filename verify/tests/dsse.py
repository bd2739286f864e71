"""Verifies a DSSE envelope with securesystemslib, which shares no line with ours.

usage: dsse.py ENVELOPE PUBLIC-KEY-HEX KEYID

Prints the payload.
"""

import json
import sys

from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

envelope, public, keyid = sys.argv[1:]
with open(envelope, "rb") as file:
    envelope = Envelope.from_dict(json.load(file))
key = SSlibKey(keyid, "ed25519", "ed25519", {"public": public})
envelope.verify([key], 1)
assert envelope.payload_type == "application/vnd.in-toto+json"
print(envelope.payload.decode())
