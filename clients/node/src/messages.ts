// The messages and services of farsock.v1, as they are generated.

export * from './gen/farsock/v1/address';
export * from './gen/farsock/v1/agent_service';
export * from './gen/farsock/v1/call';
export * from './gen/farsock/v1/event';
export * from './gen/farsock/v1/event_service';
export * from './gen/farsock/v1/group';
export * from './gen/farsock/v1/option';
export * from './gen/farsock/v1/payload';
export * from './gen/farsock/v1/session_service';
export * from './gen/farsock/v1/socket';
export * from './gen/farsock/v1/socket_service';
export * from './gen/farsock/v1/tcp';
export * from './gen/farsock/v1/transfer';
export * from './gen/google/protobuf/duration';
export * from './gen/google/protobuf/timestamp';
