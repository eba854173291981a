"""Real TCP and UDP sockets on far machines, as Python's own `socket` and `asyncio` know them."""

from farsock._errors import AgentError, AgentLostError
from farsock._host import Host, host
from farsock._lab import Lab
from farsock._socket import Socket
from farsock._watch import Gap, Restarted, Watch

__all__ = ["AgentError", "AgentLostError", "Gap", "Host", "Lab", "Restarted", "Socket", "Watch", "host"]
