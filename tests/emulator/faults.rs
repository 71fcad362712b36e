//! Planted faults and what the emulator says about each.

use crate::{FAULTS, FAULTS_SANITIZED};

/// The lines of a case, each without the kernel's name.
fn reasons(case: &str) -> Vec<String> {
    let reason = |line: &String| line.strip_prefix("kernel planted: ").unwrap_or(line).to_string();
    FAULTS.run(case).iter().map(reason).collect()
}

/// Asserts that a case's lines begin and end so; addresses in between differ from run to run.
fn assert_reasons(case: &str, expected: &[(&str, &str)]) {
    let found = reasons(case);
    assert_eq!(found.len(), expected.len(), "{case}: {found:?}");
    for (reason, (start, end)) in found.iter().zip(expected) {
        assert!(reason.starts_with(start) && reason.ends_with(end), "{case}: {reason}");
    }
}

#[test]
fn a_race_makes_the_two_schedules_disagree() {
    for barrier in ["barrier", "reuse_barrier", "warp_barrier"] {
        assert_eq!(reasons(barrier), ["equal"], "{barrier}");
        assert_eq!(reasons(&format!("missing_{barrier}")), ["differ"], "{barrier}");
    }
}

#[test]
fn threads_that_do_not_meet_are_named() {
    let cases = [
        (
            "divergent_barrier",
            [
                "thread 16: it reached the kernel's end, but thread 0 of its warp reached __syncthreads",
                "thread 15: it reached __syncthreads, but thread 31 of its warp reached the kernel's end",
            ],
        ),
        (
            "warp_leaves",
            [
                "thread 63: it reached the kernel's end, but thread 0 of its block reached __syncthreads",
                "thread 0: it reached __syncthreads, but thread 63 of its block reached the kernel's end",
            ],
        ),
        (
            "mixed_collectives",
            [
                "thread 20: it reached __ballot_sync, but thread 0 of its warp reached __shfl_xor_sync",
                "thread 51: it reached __shfl_xor_sync, but thread 63 of its warp reached __ballot_sync",
            ],
        ),
        (
            "shuffle_or_barrier",
            [
                "thread 31: it reached __syncthreads, but thread 0 of its warp reached __shfl_down_sync",
                "thread 30: it reached __shfl_down_sync, but thread 31 of its warp reached __syncthreads",
            ],
        ),
    ];
    for (case, expected) in cases {
        assert_eq!(reasons(case), expected.map(|reason| format!("block (0, 0, 0), {reason}")), "{case}");
    }
}

#[test]
fn only_the_full_warp_may_meet() {
    let names = [
        "__shfl_sync",
        "__shfl_xor_sync",
        "__shfl_up_sync",
        "__shfl_down_sync",
        "__ballot_sync",
        "__syncwarp",
    ];
    let expected = names.map(|name| {
        format!(
            "block (0, 0, 0), thread 0: {name} with the mask 0x0000ffff: only the full warp is in the dialect"
        )
    });
    assert_eq!(reasons("partial_mask"), expected);
}

#[test]
fn sixteen_bytes_lie_on_sixteen() {
    let names = [
        "load16",
        "store16",
        "ldmatrix_x4",
        "ldmatrix_x4_trans",
        "the target of cp_async_16",
        "the source of cp_async_16",
    ];
    let starts = names.map(|name| format!("block (0, 0, 0), thread 0: {name} at 0x"));
    let expected: Vec<_> =
        starts.iter().map(|start| (start.as_str(), ", which is not a multiple of 16")).collect();
    assert_reasons("misaligned", &expected);
    assert_eq!(reasons("aligned"), ["no error"; 6]);
}

#[test]
fn instructions_on_shared_memory_stay_inside() {
    for (case, end) in [("not_shared", ")"), ("past_shared", "(at offset 2048)")] {
        let starts = ["ldmatrix_x4", "the target of cp_async_16"].map(|name| {
            format!("block (0, 0, 0), thread 0: {name} outside the block's 2048 bytes of shared memory (at offset ")
        });
        assert_reasons(case, &starts.each_ref().map(|start| (start.as_str(), end)));
    }
}

#[test]
fn writes_around_shared_memory_are_found() {
    for case in ["overrun_shared", "underrun_shared"] {
        let expected = "block (0, 0, 0): it wrote outside its 256 bytes of shared memory";
        assert_eq!(reasons(case), [expected; 2], "{case}");
    }
}

#[test]
fn the_sanitizer_stops_overruns() {
    for case in ["overrun_shared", "underrun_shared"] {
        let report = FAULTS_SANITIZED.report(case);
        assert!(report.contains("AddressSanitizer: use-after-poison"), "{case}: {report}");
    }
    let report = FAULTS_SANITIZED.report("overrun_global");
    assert!(report.contains("AddressSanitizer: heap-buffer-overflow"), "{report}");
    assert!(report.contains("overrun_global"), "{report}");
}

/// What a buffer's owner forbids around it may not even be read.
#[test]
fn the_sanitizer_stops_reads_past_a_buffer() {
    for case in ["overread_global", "underread_global"] {
        let report = FAULTS_SANITIZED.report(case);
        assert!(report.contains("AddressSanitizer: use-after-poison"), "{case}: {report}");
        assert!(report.contains("overread_global"), "{case}: {report}");
    }
    assert_eq!(FAULTS_SANITIZED.run("read_inside"), ["no error"]);
}

#[test]
fn the_sanitizer_bears_abandoned_stacks() {
    for case in ["barrier", "mixed_collectives", "recovers", "several_hosts", "memory_after_stacks", "copies"]
    {
        assert_eq!(FAULTS_SANITIZED.run(case), FAULTS.run(case), "{case}");
    }
}

#[test]
fn unwritten_shared_memory_is_nan_in_every_block() {
    assert_eq!(reasons("unwritten"), ["no error"]);
}

#[test]
fn copies_land_at_the_wait_for_their_group() {
    let lines = reasons("copies").join("\n").replace("-nan", "nan");
    let nan = "nan ".repeat(12);
    let first = format!("1 2 3 4 {}", "nan ".repeat(8));
    assert_eq!(lines, format!("no error\n{nan}\n{first}\n1 2 3 4 5 6 7 8 9 10 11 12 "));
    let short = reasons("short_copies");
    assert_eq!(short[3], "1 2 0 0 5 6 0 0 9 10 0 0 ");
}

#[test]
fn copies_are_waited_for_and_at_most_sixteen_bytes() {
    let start = "block (0, 0, 0), thread 0: ";
    assert_eq!(reasons("uncommitted"), [format!("{start}it ends with 1 cp.async never waited for")]);
    let sizes = [
        format!("{start}cp_async_16 of -1 bytes"),
        "no error".into(),
        format!("{start}cp_async_16 of 17 bytes"),
    ];
    assert_eq!(reasons("sizes_of_copies"), sizes);
}

#[test]
fn launches_keep_to_the_limits_of_a_gpu() {
    let expected = [
        "48 threads a block: not a multiple of 32 up to 1024",
        "0 threads a block: not a multiple of 32 up to 1024",
        "1056 threads a block: not a multiple of 32 up to 1024",
        "a grid of 1 x 0 x 1 blocks: not 1 to 2147483647 x 65535 x 65535",
        "a grid of 1 x 1 x 65536 blocks: not 1 to 2147483647 x 65535 x 65535",
        "101377 bytes of shared memory: more than the 101376 of a block",
        "no error",
    ];
    assert_eq!(reasons("limits"), expected);
}

#[test]
fn errors_name_the_block_and_the_thread() {
    let expected = ("block (1, 2, 3), thread 7: store16 at 0x", ", which is not a multiple of 16");
    assert_reasons("coordinates", &[expected; 2]);
}

#[test]
fn an_error_leaves_the_emulator_usable_and_other_threads_alone() {
    assert_eq!(reasons("recovers"), ["no error"]);
    assert_eq!(reasons("several_hosts"), ["no error"]);
}
