//! Words for what devices report.

use rdma_sys::{ibv_event_type, ibv_wc_status};

/// What a completion's status means, and what it likely comes from.
pub(super) fn status_words(status: ibv_wc_status::Type, vendor: u32) -> String {
    let words = match status {
        ibv_wc_status::IBV_WC_LOC_LEN_ERR => "local length error: more bytes than were asked for",
        ibv_wc_status::IBV_WC_LOC_QP_OP_ERR => {
            "local queue pair operation error: the device did not take the request"
        }
        ibv_wc_status::IBV_WC_LOC_PROT_ERR => {
            "local protection error: memory here is not registered for this"
        }
        ibv_wc_status::IBV_WC_WR_FLUSH_ERR => {
            "flushed: the queue pair had failed before, or the peer had closed it"
        }
        ibv_wc_status::IBV_WC_MW_BIND_ERR => {
            "window bind error: the device did not open the window"
        }
        ibv_wc_status::IBV_WC_BAD_RESP_ERR => "bad response: the peer's device answered wrongly",
        ibv_wc_status::IBV_WC_LOC_ACCESS_ERR => "local access error: memory here is write-only",
        ibv_wc_status::IBV_WC_REM_INV_REQ_ERR => {
            "remote invalid request: the peer's device does not take this request; likely the \
             queue pairs do not belong together"
        }
        ibv_wc_status::IBV_WC_REM_ACCESS_ERR => {
            "remote access error: the peer has no open window there; likely it closed it, or was \
             restarted"
        }
        ibv_wc_status::IBV_WC_REM_OP_ERR => {
            "remote operation error: the peer's device failed while answering"
        }
        ibv_wc_status::IBV_WC_RETRY_EXC_ERR => {
            "transport retry exceeded: the peer did not answer; likely its port or a cable is \
             down, a firewall or switch drops RoCE (UDP 4791), or the MTU does not fit"
        }
        ibv_wc_status::IBV_WC_RNR_RETRY_EXC_ERR => {
            "receiver not ready: the peer's device could not take the request in time"
        }
        ibv_wc_status::IBV_WC_REM_ABORT_ERR => "remote abort: the peer's device gave up",
        ibv_wc_status::IBV_WC_FATAL_ERR => "fatal error: the device failed",
        ibv_wc_status::IBV_WC_RESP_TIMEOUT_ERR => "response timeout: the peer did not answer",
        ibv_wc_status::IBV_WC_GENERAL_ERR => "general error of the device",
        _ => "unexpected status of the device",
    };
    format!("{words} (status {status}, vendor {vendor:#x})")
}

/// What an asynchronous event says of a rail; `None` if the rail works as before.
pub(super) fn event_words(event: u32) -> Option<&'static str> {
    const WORDS: [(ibv_event_type, &str); 8] = [
        (ibv_event_type::IBV_EVENT_CQ_ERR, "the completion queue failed"),
        (ibv_event_type::IBV_EVENT_QP_FATAL, "a queue pair failed"),
        (
            ibv_event_type::IBV_EVENT_QP_REQ_ERR,
            "a queue pair failed: the peer sent a request that its device refuses",
        ),
        (
            ibv_event_type::IBV_EVENT_QP_ACCESS_ERR,
            "a queue pair failed: the peer reached for memory without an open window",
        ),
        (ibv_event_type::IBV_EVENT_DEVICE_FATAL, "the device failed"),
        (ibv_event_type::IBV_EVENT_PORT_ERR, "the port went down; likely a cable or the switch"),
        (ibv_event_type::IBV_EVENT_LID_CHANGE, "the subnet manager gave the port another LID"),
        (ibv_event_type::IBV_EVENT_PKEY_CHANGE, "the subnet manager changed the port's keys"),
    ];
    WORDS.iter().find(|(known, _)| *known as u32 == event).map(|(_, words)| *words)
}

/// Whether an event is about one port of the device.
pub(super) fn is_of_port(event: u32) -> bool {
    const OF_PORT: [ibv_event_type; 3] = [
        ibv_event_type::IBV_EVENT_PORT_ERR,
        ibv_event_type::IBV_EVENT_LID_CHANGE,
        ibv_event_type::IBV_EVENT_PKEY_CHANGE,
    ];
    OF_PORT.iter().any(|known| *known as u32 == event)
        || event == ibv_event_type::IBV_EVENT_GID_CHANGE as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_say_what_it_likely_comes_from() {
        let text = status_words(ibv_wc_status::IBV_WC_RETRY_EXC_ERR, 0x81);
        assert!(text.contains("UDP 4791") && text.ends_with("(status 12, vendor 0x81)"), "{text}");
        assert!(status_words(999, 0).starts_with("unexpected status"));
        for status in 1..=23 {
            assert!(status_words(status, 0).len() > 20);
        }
    }

    #[test]
    fn events_that_change_nothing_are_no_trouble() {
        for quiet in [
            ibv_event_type::IBV_EVENT_COMM_EST,
            ibv_event_type::IBV_EVENT_PORT_ACTIVE,
            ibv_event_type::IBV_EVENT_SM_CHANGE,
        ] {
            assert_eq!(event_words(quiet as u32), None);
        }
        assert_eq!(event_words(4711), None);
        assert!(event_words(ibv_event_type::IBV_EVENT_PORT_ERR as u32).is_some());
        assert!(is_of_port(ibv_event_type::IBV_EVENT_PORT_ERR as u32));
        assert!(!is_of_port(ibv_event_type::IBV_EVENT_QP_FATAL as u32));
    }
}
