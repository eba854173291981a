//! Every socket option that farsock knows, one row each: the RPCs, GetAgent and the tests read it from here.

use crate::model::address::{Family, Transport};
use crate::model::option::{Access, OptionSpec, OptionType};

const TCP: Option<Transport> = Some(Transport::Tcp);
const UDP: Option<Transport> = Some(Transport::Udp);
const V4: Option<Family> = Some(Family::Ipv4);
const V6: Option<Family> = Some(Family::Ipv6);
const ANY_SIZE: (i32, i32) = (0, i32::MAX);
const BYTE: (i32, i32) = (0, 255);
const FLAG: (i32, i32) = (0, 1);

/// The constants; those that libc lacks on some targets are spelled out.
mod linux {
    pub(super) use libc::*;

    /// Linux 5.0; asm-generic/socket.h.
    pub(super) const SO_BINDTOIFINDEX: c_int = 62;
    /// Linux 5.14; asm-generic/socket.h.
    pub(super) const SO_NETNS_COOKIE: c_int = 71;
    /// Linux 4.20; linux/tcp.h.
    pub(super) const TCP_TX_DELAY: c_int = 37;
    /// Linux 3.12; linux/tcp.h.
    pub(super) const TCP_NOTSENT_LOWAT: c_int = 25;
    /// Linux 6.3; linux/in.h.
    pub(super) const IP_LOCAL_PORT_RANGE: c_int = 51;
    /// Linux 4.9; linux/tcp.h.
    pub(super) const TCP_CC_INFO: c_int = 26;
    /// Linux 5.9; linux/in.h.
    pub(super) const IP_RECVERR_RFC4884: c_int = 26;
    /// Linux 5.9; linux/in6.h.
    pub(super) const IPV6_RECVERR_RFC4884: c_int = 31;
    /// Linux 4.15; linux/in6.h.
    pub(super) const IPV6_FREEBIND: c_int = 78;
}

macro_rules! options {
    ($($name:ident $level:ident $kind:ident $transport:expr, $family:expr, $access:ident, $range:expr, $summary:literal;)*) => {
        &[$(OptionSpec {
            name: stringify!($name),
            level: linux::$level,
            number: linux::$name,
            kind: OptionType::$kind,
            transport: $transport,
            family: $family,
            access: Access::$access,
            range: $range,
            summary: $summary,
        }),*]
    };
}

/// The options: socket(7), tcp(7), udp(7), ip(7), ipv6(7).
#[rustfmt::skip]
pub const OPTIONS: &[OptionSpec] = options! {
    SO_REUSEADDR SOL_SOCKET Enabled None, None, ReadWrite, FLAG,
        "Bind also to an address whose last connections are in TIME_WAIT; on for `listen`, off otherwise.";
    SO_REUSEPORT SOL_SOCKET Enabled None, None, ReadWrite, FLAG,
        "Share the address with other sockets of the same user that have it on, too.";
    SO_KEEPALIVE SOL_SOCKET Enabled TCP, None, ReadWrite, FLAG,
        "Probe a silent peer, and fail with ETIMEDOUT when it does not answer.";
    SO_LINGER SOL_SOCKET Linger None, None, ReadWrite, (0, 65_535),
        "What closing does with unsent bytes: off sends them in the background, 0s resets, more waits so long.";
    SO_RCVBUF SOL_SOCKET Number None, None, ReadWrite, ANY_SIZE,
        "The size of the receive buffer in bytes; Linux doubles what is asked, up to net.core.rmem_max.";
    SO_SNDBUF SOL_SOCKET Number None, None, ReadWrite, ANY_SIZE,
        "The size of the send buffer in bytes; Linux doubles what is asked, up to net.core.wmem_max.";
    SO_BROADCAST SOL_SOCKET Enabled UDP, None, ReadWrite, FLAG,
        "Allow sending to broadcast addresses.";
    SO_BINDTODEVICE SOL_SOCKET InterfaceName None, None, ReadWrite, FLAG,
        "Send and receive only by this interface; empty text lets go of it, which needs CAP_NET_RAW.";
    SO_BINDTOIFINDEX SOL_SOCKET Number None, None, ReadWrite, ANY_SIZE,
        "As SO_BINDTODEVICE, by the index of the interface; 0 lets go of it.";
    SO_OOBINLINE SOL_SOCKET Enabled TCP, None, ReadWrite, FLAG,
        "Leave urgent data where it stands in the stream.";
    SO_PRIORITY SOL_SOCKET Number None, None, ReadWrite, ANY_SIZE,
        "The priority of packets sent, for the queues of the interface; above 6 it needs CAP_NET_ADMIN.";
    SO_MARK SOL_SOCKET Number None, None, ReadWrite, ANY_SIZE,
        "A mark on packets sent, for routing and firewall rules of this host; it needs CAP_NET_ADMIN.";
    SO_MAX_PACING_RATE SOL_SOCKET Number None, None, ReadWrite, (-1, i32::MAX),
        "The most bytes a second that TCP sends; -1 is no limit.";
    SO_RXQ_OVFL SOL_SOCKET Enabled UDP, None, ReadWrite, FLAG,
        "Tell with each datagram how many were dropped before it; on unless it is turned off.";
    SO_TIMESTAMPNS SOL_SOCKET Enabled UDP, None, ReadWrite, FLAG,
        "Tell when the kernel received each datagram, to the nanosecond; on unless it is turned off. SO_TIMESTAMP is the same setting: the last of both counts.";
    SO_TIMESTAMP SOL_SOCKET Enabled UDP, None, ReadWrite, FLAG,
        "Tell when the kernel received each datagram, to the microsecond; see SO_TIMESTAMPNS.";
    SO_TIMESTAMPING SOL_SOCKET Timestamping UDP, None, ReadWrite, FLAG,
        "Which times the kernel takes by its clock, and tells: `rx_software` at the arrival (`receive_time`), `tx_sched` and `tx_software` on the way out (`send_timestamped`), each only with `software`; `opt_id` counts what is sent, `opt_tsonly` keeps it out of the error queue.";
    SO_TYPE SOL_SOCKET Number None, None, ReadOnly, ANY_SIZE,
        "SOCK_STREAM is 1, SOCK_DGRAM is 2.";
    SO_DOMAIN SOL_SOCKET Number None, None, ReadOnly, ANY_SIZE,
        "AF_INET is 2, AF_INET6 is 10.";
    SO_PROTOCOL SOL_SOCKET Number None, None, ReadOnly, ANY_SIZE,
        "IPPROTO_TCP is 6, IPPROTO_UDP is 17.";
    SO_ACCEPTCONN SOL_SOCKET Enabled None, None, ReadOnly, FLAG,
        "Whether the socket listens.";
    SO_COOKIE SOL_SOCKET Cookie None, None, ReadOnly, FLAG,
        "The number of the socket on its host, the same for as long as the host runs, as `ss -e` shows it behind `sk:`.";
    SO_NETNS_COOKIE SOL_SOCKET Cookie None, None, ReadOnly, FLAG,
        "The number of the socket's network namespace on its host. Linux 5.14.";
    TCP_NODELAY IPPROTO_TCP Enabled TCP, None, ReadWrite, FLAG,
        "Send small segments at once instead of waiting for earlier ones to be acknowledged (Nagle's algorithm).";
    TCP_KEEPIDLE IPPROTO_TCP Seconds TCP, None, ReadWrite, (1, 32_767),
        "With SO_KEEPALIVE: the silence before the first probe.";
    TCP_KEEPINTVL IPPROTO_TCP Seconds TCP, None, ReadWrite, (1, 32_767),
        "With SO_KEEPALIVE: the time between probes.";
    TCP_KEEPCNT IPPROTO_TCP Number TCP, None, ReadWrite, (1, 127),
        "With SO_KEEPALIVE: the number of unanswered probes that end the connection.";
    TCP_MAXSEG IPPROTO_TCP Number TCP, None, ReadWrite, (0, 32_767),
        "The largest segment in bytes, 88 or more; before the handshake it limits what is announced, 0 lets the kernel decide.";
    TCP_CORK IPPROTO_TCP Enabled TCP, None, ReadWrite, FLAG,
        "Send no partial segments until it is turned off, for at most 200 ms.";
    TCP_QUICKACK IPPROTO_TCP Enabled TCP, None, ReadWrite, FLAG,
        "Acknowledge at once, until the kernel changes its mind.";
    TCP_USER_TIMEOUT IPPROTO_TCP Milliseconds TCP, None, ReadWrite, ANY_SIZE,
        "How long bytes may stay unacknowledged before the connection ends with ETIMEDOUT; 0s is the kernel's default.";
    TCP_SYNCNT IPPROTO_TCP Number TCP, None, ReadWrite, (1, 127),
        "How often a SYN is sent again before a connect ends with ETIMEDOUT.";
    TCP_LINGER2 IPPROTO_TCP Seconds TCP, None, ReadWrite, (0, 120),
        "How long a closed connection waits in FIN_WAIT_2 for the peer's FIN; 0s is the kernel's default.";
    TCP_DEFER_ACCEPT IPPROTO_TCP Seconds TCP, None, ReadWrite, (0, 32_767),
        "How long a listener waits for the first bytes of a connection before it can be accepted; the kernel rounds up.";
    TCP_WINDOW_CLAMP IPPROTO_TCP Number TCP, None, ReadWrite, ANY_SIZE,
        "The largest window that is announced, in bytes.";
    TCP_NOTSENT_LOWAT IPPROTO_TCP Number TCP, None, ReadWrite, (-1, i32::MAX),
        "How many bytes may wait unsent in the kernel before a write waits, too; 0 is the kernel's default, -1 no limit.";
    TCP_CONGESTION IPPROTO_TCP Text TCP, None, ReadWrite, FLAG,
        "The congestion control, one of those that GetAgent lists.";
    TCP_CC_INFO IPPROTO_TCP CongestionInfo TCP, None, ReadOnly, FLAG,
        "What the congestion control tells of itself, `name=number` each: bbr, dctcp, and those that measure as vegas does; nothing of others, such as cubic.";
    TCP_TX_DELAY IPPROTO_TCP Microseconds TCP, None, ReadWrite, (0, (1 << 28) - 1),
        "Delays everything that is sent by so much: a slower network for this socket alone.";
    IP_FREEBIND IPPROTO_IP Enabled None, V4, ReadWrite, FLAG,
        "Bind also to an address that this host does not have, or not yet.";
    IP_BIND_ADDRESS_NO_PORT IPPROTO_IP Enabled None, None, ReadWrite, FLAG,
        "Leave the port to connect(2) when binding to an address with port 0, so that connections can share ports.";
    IP_LOCAL_PORT_RANGE IPPROTO_IP PortRange None, None, ReadWrite, FLAG,
        "The ports that the kernel chooses from for this socket; empty text leaves all of net.ipv4.ip_local_port_range. Linux 6.3.";
    IP_MTU_DISCOVER IPPROTO_IP PathMtu None, V4, ReadWrite, FLAG,
        "Whether packets carry DF: `do` always, `dont` never, `want` as far as the path is known, `probe` always and whatever is known.";
    IP_MTU IPPROTO_IP Number None, V4, ReadOnly, ANY_SIZE,
        "The path MTU of a connected socket, in bytes.";
    IP_TOS IPPROTO_IP Number None, V4, ReadWrite, BYTE,
        "The type-of-service byte of packets sent: DSCP and ECN; TCP keeps the ECN bits for itself.";
    IP_TTL IPPROTO_IP Number None, V4, ReadWrite, (1, 255),
        "The time-to-live of packets sent, in hops.";
    IP_PKTINFO IPPROTO_IP Enabled UDP, V4, ReadWrite, FLAG,
        "Tell the destination and interface of each datagram; on unless it is turned off.";
    IP_RECVTTL IPPROTO_IP Enabled UDP, V4, ReadWrite, FLAG,
        "Tell the time-to-live of each datagram; on unless it is turned off.";
    IP_RECVTOS IPPROTO_IP Enabled UDP, V4, ReadWrite, FLAG,
        "Tell the type-of-service byte of each datagram; on unless it is turned off.";
    IP_RECVERR IPPROTO_IP Enabled UDP, V4, ReadWrite, FLAG,
        "Tell every ICMP message about a datagram that was sent, by `icmp_received`, and let it fail nothing else.";
    IP_RECVERR_RFC4884 IPPROTO_IP Enabled UDP, V4, ReadWrite, FLAG,
        "With IP_RECVERR: let the kernel look where the extensions of an ICMP message begin (RFC 4884). Linux 5.9.";
    IP_MULTICAST_TTL IPPROTO_IP Number UDP, V4, ReadWrite, BYTE,
        "The time-to-live of multicast datagrams sent, in hops; 1 keeps them on the link.";
    IP_MULTICAST_LOOP IPPROTO_IP Enabled UDP, V4, ReadWrite, FLAG,
        "Deliver multicast datagrams sent also to members on this host.";
    IP_MULTICAST_IF IPPROTO_IP MulticastInterface UDP, V4, WriteOnly, FLAG,
        "The interface that multicast datagrams leave by; empty text lets the routing table decide.";
    IP_MULTICAST_ALL IPPROTO_IP Enabled UDP, V4, ReadWrite, FLAG,
        "Receive from every group that anybody on this host has joined, not only from one's own; on in Linux.";
    IPV6_V6ONLY IPPROTO_IPV6 Enabled None, V6, ReadWrite, FLAG,
        "Do not take IPv4 under mapped addresses; on unless it is turned off at creation.";
    IPV6_FREEBIND IPPROTO_IPV6 Enabled None, V6, ReadWrite, FLAG,
        "Bind also to an address that this host does not have, or not yet.";
    IPV6_MTU_DISCOVER IPPROTO_IPV6 PathMtu None, V6, ReadWrite, FLAG,
        "Whether packets are fragmented here: `do` and `probe` never, `dont` and `want` where the path needs it.";
    IPV6_DONTFRAG IPPROTO_IPV6 Enabled None, V6, ReadWrite, FLAG,
        "Refuse with EMSGSIZE to send what would have to be fragmented.";
    IPV6_MTU IPPROTO_IPV6 Number None, V6, ReadOnly, ANY_SIZE,
        "The path MTU of a connected socket, in bytes.";
    IPV6_TCLASS IPPROTO_IPV6 Number None, V6, ReadWrite, (-1, 255),
        "The traffic class byte of packets sent: DSCP and ECN; -1 is the kernel's default.";
    IPV6_UNICAST_HOPS IPPROTO_IPV6 Number None, V6, ReadWrite, (-1, 255),
        "The hop limit of packets sent; -1 is the kernel's default.";
    IPV6_RECVPKTINFO IPPROTO_IPV6 Enabled UDP, V6, ReadWrite, FLAG,
        "Tell the destination and interface of each datagram; on unless it is turned off.";
    IPV6_RECVHOPLIMIT IPPROTO_IPV6 Enabled UDP, V6, ReadWrite, FLAG,
        "Tell the hop limit of each datagram; on unless it is turned off.";
    IPV6_RECVTCLASS IPPROTO_IPV6 Enabled UDP, V6, ReadWrite, FLAG,
        "Tell the traffic class byte of each datagram; on unless it is turned off.";
    IPV6_RECVERR IPPROTO_IPV6 Enabled UDP, V6, ReadWrite, FLAG,
        "Tell every ICMP message about a datagram that was sent, by `icmp_received`, and let it fail nothing else.";
    IPV6_RECVERR_RFC4884 IPPROTO_IPV6 Enabled UDP, V6, ReadWrite, FLAG,
        "With IPV6_RECVERR: let the kernel look where the extensions of an ICMP message begin (RFC 4884). Linux 5.9.";
    IPV6_MULTICAST_HOPS IPPROTO_IPV6 Number UDP, V6, ReadWrite, (-1, 255),
        "The hop limit of multicast datagrams sent; -1 is the kernel's default.";
    IPV6_MULTICAST_LOOP IPPROTO_IPV6 Enabled UDP, V6, ReadWrite, FLAG,
        "Deliver multicast datagrams sent also to members on this host.";
    IPV6_MULTICAST_IF IPPROTO_IPV6 InterfaceIndex UDP, V6, ReadWrite, FLAG,
        "The interface that multicast datagrams leave by; empty text lets the routing table decide.";
    IPV6_MULTICAST_ALL IPPROTO_IPV6 Enabled UDP, V6, ReadWrite, FLAG,
        "Receive from every group that anybody on this host has joined, not only from one's own; on in Linux.";
};
