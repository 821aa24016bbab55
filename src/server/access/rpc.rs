//! A call, and what it takes: the one table of who may do what.

use super::permission::Verb;

/// What a call takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Right {
    /// Nothing: who calls is not asked.
    Open,
    /// To be somebody. What is of streams that one may not see is left out of the answer.
    Known,
    /// Any permission on the stream.
    See,
    /// The verb on the stream.
    On(Verb),
    /// [`Verb::Read`] with a subscription, [`Verb::Peek`] without.
    ReadOrPeek,
}

macro_rules! rpcs {
    ($($name:ident = $path:literal, $right:expr;)*) => {
        /// Every call that the server answers.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(in crate::server) enum Rpc {
            $($name,)*
        }

        impl Rpc {
            /// All of them.
            #[cfg(test)]
            pub(super) const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The call of a path; none for what is not in the table, which nobody may call.
            pub(super) fn of_path(path: &str) -> Option<Self> {
                match path {
                    $($path => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Its path.
            pub(super) fn path(self) -> &'static str {
                match self {
                    $(Self::$name => $path,)*
                }
            }

            /// What it takes.
            pub(super) fn right(self) -> Right {
                match self {
                    $(Self::$name => $right,)*
                }
            }
        }
    };
}

rpcs! {
    CreateStream = "/bowstring.v1.Control/CreateStream", Right::On(Verb::Append);
    DescribeStream = "/bowstring.v1.Control/DescribeStream", Right::See;
    ListStreams = "/bowstring.v1.Control/ListStreams", Right::Known;
    DeleteStream = "/bowstring.v1.Control/DeleteStream", Right::On(Verb::Admin);
    CompleteStream = "/bowstring.v1.Control/CompleteStream", Right::On(Verb::Append);
    FailStream = "/bowstring.v1.Control/FailStream", Right::On(Verb::Append);
    OpenEpoch = "/bowstring.v1.Control/OpenEpoch", Right::On(Verb::Append);
    CommitEpoch = "/bowstring.v1.Control/CommitEpoch", Right::On(Verb::Append);
    AbortEpoch = "/bowstring.v1.Control/AbortEpoch", Right::On(Verb::Append);
    KeepProducer = "/bowstring.v1.Control/KeepProducer", Right::On(Verb::Append);
    Subscribe = "/bowstring.v1.Control/Subscribe", Right::On(Verb::Read);
    Unsubscribe = "/bowstring.v1.Control/Unsubscribe", Right::On(Verb::Read);
    Ack = "/bowstring.v1.Control/Ack", Right::On(Verb::Read);
    Plan = "/bowstring.v1.Control/Plan", Right::On(Verb::Read);
    Seek = "/bowstring.v1.Control/Seek", Right::On(Verb::Read);
    KeepConsumer = "/bowstring.v1.Control/KeepConsumer", Right::On(Verb::Read);
    GiveBack = "/bowstring.v1.Control/GiveBack", Right::On(Verb::Read);
    UpdateLeases = "/bowstring.v1.Control/UpdateLeases", Right::On(Verb::Read);
    Locate = "/bowstring.v1.Control/Locate", Right::On(Verb::Peek);
    // Of one stream, or of all that one may see.
    GetStats = "/bowstring.v1.Control/GetStats", Right::See;
    // Its answer names a Unix socket; clients ask there too, to know whether a token may be sent that way.
    DescribeServer = "/bowstring.v1.Control/DescribeServer", Right::Open;
    // Its payload is what shows who calls.
    Handshake = "/arrow.flight.protocol.FlightService/Handshake", Right::Open;
    ListFlights = "/arrow.flight.protocol.FlightService/ListFlights", Right::Known;
    GetFlightInfo = "/arrow.flight.protocol.FlightService/GetFlightInfo", Right::See;
    // Offered by nobody.
    PollFlightInfo = "/arrow.flight.protocol.FlightService/PollFlightInfo", Right::Known;
    GetSchema = "/arrow.flight.protocol.FlightService/GetSchema", Right::See;
    DoGet = "/arrow.flight.protocol.FlightService/DoGet", Right::ReadOrPeek;
    DoPut = "/arrow.flight.protocol.FlightService/DoPut", Right::On(Verb::Append);
    // Offered by nobody.
    DoExchange = "/arrow.flight.protocol.FlightService/DoExchange", Right::Known;
    // Each action takes what the call takes that it stands for.
    DoAction = "/arrow.flight.protocol.FlightService/DoAction", Right::Known;
    ListActions = "/arrow.flight.protocol.FlightService/ListActions", Right::Known;
    HealthCheck = "/grpc.health.v1.Health/Check", Right::Open;
    HealthWatch = "/grpc.health.v1.Health/Watch", Right::Open;
    Reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Right::Known;
}

/// The call that a Flight action stands for; none for one that is not in the table, which nobody may do.
pub(super) fn of_action(action: &str) -> Option<Rpc> {
    Some(match action {
        "complete" => Rpc::CompleteStream,
        "fail" => Rpc::FailStream,
        "create_stream" => Rpc::CreateStream,
        "delete_stream" => Rpc::DeleteStream,
        "describe" => Rpc::DescribeStream,
        "subscribe" => Rpc::Subscribe,
        "unsubscribe" => Rpc::Unsubscribe,
        "ack" => Rpc::Ack,
        "plan" => Rpc::Plan,
        "seek" => Rpc::Seek,
        "locate" => Rpc::Locate,
        "open_epoch" => Rpc::OpenEpoch,
        "commit_epoch" => Rpc::CommitEpoch,
        "abort_epoch" => Rpc::AbortEpoch,
        "stats" => Rpc::GetStats,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::actions;

    #[test]
    fn every_call_of_the_control_service_is_in_the_table() {
        let proto = include_str!("../../../proto/bowstring/v1/control.proto");
        let methods: Vec<_> = proto.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next()).collect();
        assert!(methods.len() > 20, "{methods:?}");
        for method in &methods {
            let path = format!("/bowstring.v1.Control/{method}");
            let rpc = Rpc::of_path(&path).unwrap_or_else(|| panic!("{method} is in no table of permissions"));
            assert_eq!(rpc.path(), path);
        }
        let of_control = Rpc::ALL.iter().filter(|rpc| rpc.path().starts_with("/bowstring.v1.Control/")).count();
        assert_eq!(of_control, methods.len());
    }

    #[test]
    fn every_action_is_in_the_table_and_no_other() {
        for (action, _) in actions::ALL {
            assert!(of_action(action).is_some(), "{action} is in no table of permissions");
        }
        assert_eq!(of_action("of a newer version"), None);
    }

    #[test]
    fn only_these_calls_are_open() {
        let open: Vec<_> = Rpc::ALL.iter().filter(|rpc| rpc.right() == Right::Open).collect();
        assert_eq!(open, [&Rpc::DescribeServer, &Rpc::Handshake, &Rpc::HealthCheck, &Rpc::HealthWatch]);
    }
}
