"""Our norms in models that were written without them: exchanged in place, given the batch."""

from graphnorms.dropin.context import batch
from graphnorms.dropin.replace import replace_norms
from graphnorms.dropin.resolve import resolve_norm
from graphnorms.dropin.result import Change, Replacement
from graphnorms.dropin.synchronize import convert_sync

__all__ = ["Change", "Replacement", "batch", "convert_sync", "replace_norms", "resolve_norm"]
