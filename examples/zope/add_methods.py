"""Adds the external methods to the root folder: `zconsole run etc/zope.conf add_methods.py`."""

import transaction
from Products.ExternalMethod.ExternalMethod import ExternalMethod

for name in ("leak", "hang"):
    if name not in app.objectIds():  # noqa: F821 (zconsole provides app)
        app._setObject(name, ExternalMethod(name, "", "faults", name))  # noqa: F821
transaction.commit()
