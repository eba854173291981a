//! `farsock explain`: every word that errors, events and refusals use, in English.

use farsock::model::event::Event;

use crate::harness::run_farsock;

#[tokio::test]
async fn an_error_is_explained_by_its_name_or_number_with_the_hints_of_failures() {
    let ran = run_farsock(&["explain", "ECONNREFUSED"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert!(ran.out.starts_with("ECONNREFUSED (111): connection refused\n\n"), "{}", ran.out);
    assert!(ran.out.contains("connect: nobody listens there, or a firewall answers with a RST"), "{}", ran.out);
    assert!(ran.out.contains("See also: rst, icmp-errors"), "{}", ran.out);
    assert!(ran.out.lines().all(|line| line.chars().count() <= 104), "{}", ran.out);
    assert_eq!(run_farsock(&["explain", "111"]).await.out, ran.out);
    assert_eq!(run_farsock(&["explain", "econnrefused"]).await.out, ran.out);
}

#[tokio::test]
async fn concepts_refusals_and_events_are_explained() {
    let ran = run_farsock(&["explain", "rst", "on", "close"]).await;
    assert!(ran.out.contains("bytes unread sends a RST, not a FIN"), "{}", ran.out);
    assert_eq!(run_farsock(&["explain", "rst-on-close"]).await.out, ran.out);
    let ran = run_farsock(&["explain", "LEASE_EXPIRED", "nagle"]).await;
    assert!(ran.out.contains("a reason for which an agent refuses") && ran.out.contains("\nnagle\n"), "{}", ran.out);
    // What the proto says, every field of it included.
    for kind in Event::KINDS {
        let ran = run_farsock(&["explain", kind]).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{kind}");
        let paragraphs: Vec<&str> = ran.out.split("\n\n").collect();
        assert!(paragraphs.len() >= 3 && paragraphs.iter().all(|text| text.trim().len() > 10), "{kind}: {}", ran.out);
    }
    let ran = run_farsock(&["explain", "peer-reset"]).await;
    assert!(ran.out.contains("Not when it was reset from here"), "{}", ran.out);
    assert!(ran.out.contains("error: What the kernel said: ECONNRESET"), "{}", ran.out);
}

#[tokio::test]
async fn an_unknown_word_is_met_with_the_nearest_one_and_no_word_with_the_list() {
    let ran = run_farsock(&["explain", "ECONREFUSED"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert_eq!(ran.err, "farsock: `ECONREFUSED` is not explained: did you mean `ECONNREFUSED`?\n");
    let ran = run_farsock(&["explain", "qqqqqq"]).await;
    assert!(ran.err.contains("`farsock explain` alone lists what there is"), "{}", ran.err);
    let ran = run_farsock(&["explain"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    for word in ["rst-on-close", "time-wait", "EADDRINUSE", "LEASE_EXPIRED", "peer_closed"] {
        assert!(ran.out.contains(word), "{word}");
    }
}
