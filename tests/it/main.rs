//! The integration tests: one binary, real agents, real sockets.
//!
//! Files are named `<transport>_<behaviour>.rs`. Each test starts its own agents, waits for events and never for time, and reads as a
//! transcript of what somebody could have typed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, reason = "tests")]

mod agent_auth;
mod agent_drain;
mod agent_info;
mod agent_limits;
mod agent_reflection;
mod agent_start;
mod call_detach;
mod call_fail_on_error;
mod call_idempotency;
mod call_instance;
mod call_timing;
mod cli_check;
mod cli_env;
mod cli_exit_code;
mod cli_help;
mod cli_run;
mod cli_sockets;
mod events_gap;
mod events_list;
mod events_order;
mod events_views;
mod events_wait;
mod events_watch;
mod floors;
mod harness;
mod oracle;
mod request_errors;
mod request_random;
mod session_create;
mod session_delete;
mod session_isolation;
mod session_reset;
mod socket_list;
mod socket_options;
mod socket_options_table;
mod tcp_bind;
mod tcp_cancel;
mod tcp_connect;
mod tcp_count;
mod tcp_direction;
mod tcp_endings;
mod tcp_half_close;
mod tcp_idle;
mod tcp_kernel;
mod tcp_listen;
mod tcp_pause;
mod tcp_states;
mod tcp_stream;
mod tcp_urgent;
mod udp_connect;
mod udp_drops;
mod udp_groups;
mod udp_icmp;
mod udp_marks;
mod udp_matrix;
mod udp_multicast;
mod udp_options;
mod udp_receive;
mod udp_send;
mod udp_states;
