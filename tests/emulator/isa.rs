//! Every instruction, lane by lane and bit by bit, against its definition written out in `isa.cpp`.

use crate::{ISA, ISA_SANITIZED};

const CASES: [&str; 9] =
    ["shfl", "shfl_xor", "shfl_up", "shfl_down", "ballot", "mma", "tiles", "ldmatrix", "ldmatrix_trans"];

#[test]
fn instructions_are_those_of_the_isa() {
    for case in CASES {
        assert_eq!(ISA.run(case), ["no error"], "{case}");
    }
}

#[test]
fn the_sanitizer_follows_the_switches_of_stacks() {
    for case in CASES {
        assert_eq!(ISA_SANITIZED.run(case), ["no error"], "{case}");
    }
}
