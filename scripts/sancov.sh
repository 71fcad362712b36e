#!/usr/bin/env bash
# Stands before rustc (RUSTC_WORKSPACE_WRAPPER): gives the library the counters of edges and comparisons that libFuzzer is guided
# by. Dependencies and build scripts are compiled as ever, so their builds are shared with all others.
case " $* " in
*" --crate-name toedit "*" --crate-type lib "*)
    set -- "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions
    ;;
esac
exec "$@"
