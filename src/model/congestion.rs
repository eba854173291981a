//! What congestion controls tell of themselves, in words. linux/inet_diag.h: `union tcp_cc_info`.

/// `name=number` each, of what TCP_CC_INFO has answered; nothing where it is of no kind that is known.
pub fn congestion_text(control: &str, info: &[u8]) -> String {
    let word = |at: usize| info.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
    let half = |at: usize| info.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_ne_bytes);
    match (control, info.len()) {
        // struct tcp_bbr_info. The gains are counted in 256ths.
        ("bbr", 20) => format!(
            "bandwidth_bytes_per_second={} min_rtt_us={} pacing_gain_256={} cwnd_gain_256={}",
            u64::from(word(0)) | u64::from(word(4)) << 32,
            word(8),
            word(12),
            word(16)
        ),
        // struct tcp_dctcp_info.
        ("dctcp", 16) => format!(
            "enabled={} ce_state={} alpha={} ecn_bytes={} total_bytes={}",
            half(0),
            half(2),
            word(4),
            word(8),
            word(12)
        ),
        // struct tcpvegas_info, which several have.
        (_, 16) => {
            format!("enabled={} rtt_count={} rtt_us={} min_rtt_us={}", word(0), word(4), word(8), word(12))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_in_its_own_words() {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
        assert_eq!(congestion_text("vegas", &words(&[1, 2, 30, 20])), "enabled=1 rtt_count=2 rtt_us=30 min_rtt_us=20");
        let bbr = congestion_text("bbr", &words(&[7, 1, 90, 256, 512]));
        assert_eq!(bbr, "bandwidth_bytes_per_second=4294967303 min_rtt_us=90 pacing_gain_256=256 cwnd_gain_256=512");
        let halves = [1_u16.to_ne_bytes(), 0_u16.to_ne_bytes()].concat();
        let dctcp = congestion_text("dctcp", &[halves, words(&[1024, 5, 9])].concat());
        assert_eq!(dctcp, "enabled=1 ce_state=0 alpha=1024 ecn_bytes=5 total_bytes=9");
        for size in 0..40 {
            let told = congestion_text("cubic", &vec![1; size]);
            assert_eq!(told.is_empty(), size != 16, "{size}");
        }
    }
}
