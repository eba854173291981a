"""The whole API as it is: messages and stubs, generated from `proto/farsock/v1`.

`farsock.Host.channel` makes a channel for the stubs.
"""

from farsock.v1.address_pb2 import *
from farsock.v1.agent_service_pb2 import *
from farsock.v1.agent_service_pb2_grpc import AgentServiceStub as AgentServiceStub
from farsock.v1.call_pb2 import *
from farsock.v1.event_pb2 import *
from farsock.v1.event_service_pb2 import *
from farsock.v1.event_service_pb2_grpc import EventServiceStub as EventServiceStub
from farsock.v1.group_pb2 import *
from farsock.v1.option_pb2 import *
from farsock.v1.payload_pb2 import *
from farsock.v1.session_service_pb2 import *
from farsock.v1.session_service_pb2_grpc import SessionServiceStub as SessionServiceStub
from farsock.v1.socket_pb2 import *
from farsock.v1.socket_service_pb2 import *
from farsock.v1.socket_service_pb2_grpc import SocketServiceStub as SocketServiceStub
from farsock.v1.tcp_pb2 import *
from farsock.v1.transfer_pb2 import *
