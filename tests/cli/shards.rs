//! `--shard`: the outputs of all shards hold what one run writes.

use std::process::Command;

use crate::Place;
use crate::edit::ALL;
use crate::formats::gzip;

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

/// The decompressed outputs `out-I-of-COUNT` of all shards.
fn outputs(place: &Place, words: &str, extension: &str, count: usize) -> Vec<String> {
    let shard = |index: usize| {
        place
            .edit(&format!("{words} --output out{extension} --shard {index}/{count} --overwrite {ALL}"))
            .done();
        let bytes = place.bytes(&format!("out-{index:05}-of-{count:05}{extension}"));
        let plain =
            if extension.ends_with(".zst") { zstd::stream::decode_all(&bytes[..]).unwrap() } else { bytes };
        String::from_utf8(plain).unwrap()
    };
    (0..count).map(shard).collect()
}

#[test]
fn concatenated_shards_are_the_unsharded_edit() {
    let place = Place::with_sample(12);
    let plain = place.bytes("in.jsonl");
    place.put("in.jsonl.zst", plain.chunks(3000).flat_map(zstd).collect::<Vec<_>>());
    place.edit(&format!("--input in.jsonl --output whole.jsonl {ALL}")).done();
    let whole = place.read("whole.jsonl");
    for (input, extension, count) in
        [("in.jsonl", ".jsonl", 3), ("in.jsonl", ".jsonl.zst", 5), ("in.jsonl.zst", ".jsonl", 3)]
    {
        let shards = outputs(&place, &format!("--input {input}"), extension, count);
        assert!(shards.iter().all(|shard| !shard.is_empty()), "{input}");
        assert!(shards.concat() == whole, "{input} as {extension}");
    }
}

#[test]
fn gzip_is_dealt_out_record_by_record() {
    let place = Place::with_sample(7);
    place.put("in.jsonl.gz", gzip(&place.bytes("in.jsonl")));
    place.edit(&format!("--input in.jsonl --output whole.jsonl {ALL}")).done();
    let whole = place.read("whole.jsonl");
    let shards = outputs(&place, "--input in.jsonl.gz", ".jsonl", 3);
    for (number, line) in whole.lines().enumerate() {
        assert_eq!(shards[number % 3].lines().nth(number / 3), Some(line));
    }
}

#[test]
fn a_folder_has_a_shard_of_every_file_and_text_files_stay_whole() {
    let place = Place::with_sample(4);
    place.put("in/a.jsonl", place.bytes("in.jsonl"));
    place.put("in/b.txt", "one");
    place.put("in/c/d.txt", "two");
    for index in 0..2 {
        place.edit(&format!("--input in --output out --shard {index}/2 {ALL}")).done();
    }
    let names = |folder: &str| {
        let mut names: Vec<_> = std::fs::read_dir(place.path(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(".manifest"))
            .collect();
        names.sort();
        names
    };
    let parts = ["a-00000-of-00002.jsonl", "a-00001-of-00002.jsonl", "b-00001-of-00002.txt", "c"];
    assert_eq!(names("out"), parts);
    assert_eq!(names("out/c"), ["d-00000-of-00002.txt"]);
}

#[test]
fn launchers_name_the_shard() {
    let place = Place::with_sample(4);
    let run = |variables: &[(&str, &str)], output: &str| {
        let mut command: Command = place
            .command(&format!("edit --model tiny --input in.jsonl --output {output} --shard auto {ALL}"));
        for name in ["SLURM_ARRAY_TASK_ID", "OMPI_COMM_WORLD_RANK", "RANK"] {
            command.env_remove(name);
        }
        crate::run(
            {
                command.envs(variables.iter().copied());
                command
            },
            b"",
        )
    };
    let slurm = [
        ("SLURM_ARRAY_TASK_ID", "4"),
        ("SLURM_ARRAY_TASK_COUNT", "2"),
        ("SLURM_ARRAY_TASK_MIN", "3"),
        ("SLURM_ARRAY_TASK_MAX", "4"),
    ];
    run(&slurm, "slurm.jsonl").done();
    run(&[("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "2")], "mpi.jsonl").done();
    run(&[("RANK", "1"), ("WORLD_SIZE", "2")], "torchrun.jsonl").done();
    let expected = place.bytes("slurm-00001-of-00002.jsonl");
    assert!(!expected.is_empty());
    assert!(place.bytes("mpi-00001-of-00002.jsonl") == expected);
    assert!(place.bytes("torchrun-00001-of-00002.jsonl") == expected);
    run(&[], "none.jsonl").fails_with(2, &["--shard auto", "give --shard I/N"]);
}

#[test]
fn what_is_no_shard_is_wrong_usage() {
    let place = Place::with_sample(1);
    for shard in ["2/2", "x", "1", "-1/2"] {
        let outcome =
            place.edit(&format!("--input in.jsonl --output out.jsonl --shard={shard}")).exits_with(2);
        assert!(outcome.stderr.contains("expected I/N"), "{}", outcome.stderr);
    }
    place
        .edit("--input in.jsonl --output out.txt --shard 0/2")
        .fails(&["out.txt", "exactly one document, found a shard"]);
}

#[test]
fn a_summary_counts_what_the_shard_has() {
    let place = Place::with_sample(6);
    let count = |index: usize| {
        place.edit(&format!(
            "--input in.jsonl --output out.jsonl --shard {index}/2 --summary s{index}.json {ALL}"
        ));
        place.json(&format!("s{index}.json"))["documents"].as_u64().unwrap()
    };
    assert_eq!(count(0) + count(1), 6);
}
