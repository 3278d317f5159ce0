"""Alibaba Cloud's own SDK for Python, driven by lines of JSON: a call in, its answer or refusal out.

Everything that is asked for and judged stands in the suite; here is only what the SDK needs to be told.
"""

import json
import logging
import re
import sys

from alibabacloud_credentials.client import Client as CredentialsClient
from alibabacloud_credentials.models import Config as CredentialsConfig
from alibabacloud_ecs20140526 import models as ecs_models
from alibabacloud_ecs20140526.client import Client as EcsClient
from alibabacloud_tea_openapi.utils_models import Config
from alibabacloud_vpc20160428 import models as vpc_models
from alibabacloud_vpc20160428.client import Client as VpcClient
from darabonba.runtime import RuntimeOptions

# What it tells about a metadata service that is away is told by the exception too.
logging.getLogger("credentials").setLevel(logging.CRITICAL)

PRODUCTS = {"vpc": (VpcClient, vpc_models), "ecs": (EcsClient, ecs_models)}


def client(order, of):
    """The client of a product, with the key that the order names, or that of the instance's role."""
    config = Config(endpoint=order["endpoint"], region_id=order["region"], protocol="http")
    if "key" in order:
        config.access_key_id, config.access_key_secret = order["key"]
        config.security_token = order.get("token")
    else:
        config.credential = role()
    return of(config)


def role():
    """The credentials package's way to the metadata service, at the address that it has built in."""
    return CredentialsClient(CredentialsConfig(type="ecs_ram_role", disable_imds_v1=True))


def perform(order):
    if order["action"] == "credentials":
        found = role().get_credential()
        return {"id": found.access_key_id, "provider": found.provider_name, "token": bool(found.security_token)}
    of, models = PRODUCTS[order["product"]]
    request = getattr(models, order["action"] + "Request")().from_map(order["request"])
    method = re.sub(r"(?<=.)([A-Z])", r"_\1", order["action"]).lower() + "_with_options"
    runtime = RuntimeOptions(autoretry=False, connect_timeout=2000, read_timeout=2000)
    return getattr(client(order, of), method)(request, runtime).body.to_map()


for line in sys.stdin:
    try:
        answer = {"ok": perform(json.loads(line))}
    except Exception as error:  # pylint: disable=broad-except
        code, status = getattr(error, "code", None), getattr(error, "status_code", None)
        answer = {"refused": code or type(error).__name__, "status": status, "words": str(error)}
    print(json.dumps(answer), flush=True)
