//! What each RPC needs: which right its caller must have. An RPC that has no row here does not compile ([`crate::wire::scope`]), or fails
//! the tests, which know all RPCs from their descriptors.

use std::fmt;

use crate::model::policy::Right;

macro_rules! rpcs {
    ($($service:ident { $($name:ident $right:ident,)* })*) => {
        /// An RPC of `farsock.v1`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Rpc {
            $($(
                #[doc = concat!("`", stringify!($service), "/", stringify!($name), "`")]
                $name,
            )*)*
        }

        impl Rpc {
            /// All of them.
            pub const ALL: &'static [Self] = &[$($(Self::$name),*),*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$name => stringify!($name),)*)* }
            }

            /// The name of its service.
            pub const fn service(self) -> &'static str {
                match self { $($(Self::$name => stringify!($service),)*)* }
            }

            /// The right that its caller must have.
            pub const fn right(self) -> Right {
                match self { $($(Self::$name => Right::$right,)*)* }
            }
        }
    };
}

rpcs! {
    AgentService {
        GetAgent Look,
        GetClock Look,
        ListInterfaces Look,
        GetRoute Resolve,
        ParseAddress Look,
        Resolve Resolve,
        CheckPort Use,
        GetKernelCounters Look,
    }
    SessionService {
        CreateSession Use,
        RenewSession Use,
        GetSession Look,
        ListSessions Look,
        ResetSession Use,
        DeleteSession Use,
    }
    SocketService {
        CreateSocket Use,
        CreateSockets Use,
        BindSocket Use,
        ListenSocket Use,
        AcceptSocket Use,
        ConnectSocket Use,
        DisconnectSocket Use,
        WriteSocket Use,
        SendDatagrams Use,
        ReceiveSocket Use,
        TransferSocket Use,
        FlushSocket Use,
        ShutdownSocket Use,
        CloseSocket Use,
        AbortSocket Use,
        SetSocketDelivery Use,
        SetSocketOptions Use,
        JoinGroup Use,
        LeaveGroup Use,
        BlockSource Use,
        UnblockSource Use,
        SetSourceFilter Use,
        GetSourceFilter Look,
        GetSocketOptions Look,
        GetSocket Look,
        ListSockets Look,
        GetCall Look,
        CancelCall Use,
    }
    EventService {
        WatchEvents Look,
        AckEvents Use,
        WaitEvent Look,
        ListEvents Look,
    }
}

impl fmt::Display for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Right {
    /// The right that is needed as well where the session is one of somebody else.
    pub const fn on_others(self) -> Self {
        match self {
            Self::Look | Self::SeeOthers => Self::SeeOthers,
            Self::Resolve | Self::Use | Self::UseOthers | Self::Options => Self::UseOthers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::policy::ROLES;

    /// Every RPC × every role that is always there, as it was meant.
    #[test]
    fn each_role_may_call_what_it_is_for() {
        let may = |role: &str, right| ROLES.iter().any(|(name, rights)| *name == role && rights.contains(&right));
        for rpc in Rpc::ALL {
            let reads =
                ["Get", "ListSessions", "ListSockets", "ListEvents", "ListInterfaces", "Watch", "Wait", "ParseAddress"]
                    .iter()
                    .any(|word| rpc.name().starts_with(word));
            let looks_up = matches!(rpc, Rpc::Resolve | Rpc::GetRoute);
            assert_eq!(may("viewer", rpc.right()), reads && !looks_up, "{rpc}");
            assert!(!may("viewer", rpc.right().on_others()), "{rpc}");
            assert!(may("student", rpc.right()), "{rpc}");
            assert!(!may("student", rpc.right().on_others()), "{rpc}");
            for role in ["instructor", "admin"] {
                assert!(may(role, rpc.right()) && may(role, rpc.right().on_others()), "{role} {rpc}");
            }
        }
    }
}
