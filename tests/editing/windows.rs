use proptest::prelude::*;
use toedit::score::{Window, WindowConfig};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn each_token_is_scored_once_by_the_first_window_with_it(
        tokens in 0usize..400, max_length in 2usize..60, part in 0f64..1.0,
    ) {
        let overlap = 1 + (part * (max_length - 1) as f64) as usize;
        let windows: Vec<Window> = WindowConfig::new(max_length, overlap).unwrap().windows(tokens).collect();
        let scored: Vec<usize> = windows.iter().flat_map(Window::scored).collect();
        prop_assert_eq!(scored, (1..tokens).collect::<Vec<_>>());
        for (s, window) in windows.iter().enumerate() {
            prop_assert_eq!(window.start, s * (max_length - overlap));
            prop_assert!(window.end - window.start == max_length.min(tokens - window.start));
            for position in window.scored() {
                prop_assert!(position - window.start >= overlap.min(position), "too little context");
                prop_assert!(windows[..s].iter().all(|earlier| position >= earlier.end));
            }
            prop_assert_eq!(window.end == tokens, s + 1 == windows.len());
        }
    }

    #[test]
    fn truncate_keeps_the_first_window(tokens in 0usize..100, max_length in 2usize..60) {
        let whole = WindowConfig::new(max_length, 1).unwrap();
        let cut = whole.with_truncate(true);
        prop_assert!(cut.windows(tokens).eq(whole.windows(tokens).take(1)));
        prop_assert_eq!(cut.covered(tokens), cut.windows(tokens).map(|window| window.end).sum::<usize>());
        prop_assert_eq!(whole.covered(tokens), tokens);
    }
}

#[test]
fn defaults_follow_the_model() {
    let of = |positions| WindowConfig::for_positions(positions).map(|w| (w.max_length(), w.overlap()));
    assert_eq!(of(131_072).unwrap(), (2048, 1024));
    assert_eq!(of(1023).unwrap(), (1023, 511));
    assert!(of(1).is_err());
}

#[test]
fn an_overlap_out_of_range_is_wrong_usage() {
    for (max_length, overlap) in [(4, 0), (4, 4), (4, 5), (0, 0), (1, 1)] {
        assert_eq!(WindowConfig::new(max_length, overlap).unwrap_err().exit_status(), 2);
    }
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let windows = WindowConfig::new(usize::MAX, usize::MAX - 1).unwrap();
    assert_eq!(windows.windows(10).collect::<Vec<_>>(), [Window { start: 0, end: 10, first_scored: 1 }]);
}
