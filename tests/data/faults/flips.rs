//! Bits that flip in what an earlier process left.

use std::fs;
use std::path::Path;

use toedit::data::{Begin, Manifest, manifest_path, rejects_path};
use toedit::random::philox4x32;

use super::Scene;
use crate::assert_error;

/// Flips a bit that depends on `case`.
fn flip(path: &Path, case: u32) {
    let mut bytes = fs::read(path).unwrap();
    let [at, bit, ..] = philox4x32([case, 0, 0, 0], [3, 3]);
    let at = at as usize % bytes.len();
    bytes[at] ^= 1 << (bit % 8);
    fs::write(path, bytes).unwrap();
}

#[test]
fn flipped_bits_in_a_journal_or_a_partial_file_are_done_again() {
    let scene = Scene::new("out.jsonl.zst");
    for case in 0..60 {
        scene.interrupt(45);
        let kind = ["journal", "partial", "rejects"][case as usize % 3];
        flip(&scene.working(kind), case);
        scene.run(Begin::Resume, None).unwrap();
        scene.assert_whole((case, kind));
    }
}

/// The last calls of a run: all frames are there, the names or the manifest are not.
#[test]
fn flipped_bits_in_an_output_without_a_manifest_do_not_go_unseen() {
    let scene = Scene::new("out.jsonl.gz");
    let mut seen = 0;
    for at in 0.. {
        scene.clear();
        let storage = super::failing::Failing::new(at, 5);
        if scene.run(Begin::New, Some(std::sync::Arc::new(storage))).is_ok() {
            break;
        }
        if scene.output.exists() && !manifest_path(&scene.output).exists() {
            flip(&scene.output, at as u32);
            assert_error(scene.run(Begin::Resume, None), "out.jsonl.gz", "--overwrite");
            scene.run(Begin::Overwrite, None).unwrap();
            scene.assert_whole(at);
            seen += 1;
        }
    }
    assert!(seen > 2, "{seen}");
}

#[test]
fn flipped_bits_in_a_finished_output_fail_its_verification() {
    let scene = Scene::new("out.jsonl.gz");
    scene.run(Begin::New, None).unwrap();
    let (manifest, rejects) = (manifest_path(&scene.output), rejects_path(&scene.output));
    for path in [&scene.output, &manifest, &rejects] {
        let bytes = fs::read(path).unwrap();
        for case in 0..30 {
            flip(path, case);
            assert_error(Manifest::verify(&scene.output), "out.jsonl.gz", "manifest");
            if *path == manifest {
                assert_error(scene.run(Begin::Resume, None), "out.jsonl.gz.manifest", "--overwrite");
            }
            fs::write(path, &bytes).unwrap();
        }
        fs::write(path, [&bytes[..], b"\n"].concat()).unwrap();
        assert_error(Manifest::verify(&scene.output), "out.jsonl.gz", "manifest");
        fs::remove_file(path).unwrap();
        Manifest::verify(&scene.output).unwrap_err();
        fs::write(path, &bytes).unwrap();
    }
    scene.assert_whole("all put back");
}

#[test]
fn journals_and_partial_files_cut_anywhere() {
    let scene = Scene::new("out.jsonl");
    for kind in ["journal", "partial", "rejects"] {
        for case in 0..12 {
            scene.interrupt(50);
            let path = scene.working(kind);
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() * case / 12]).unwrap();
            scene.run(Begin::Resume, None).unwrap();
            scene.assert_whole((kind, case));
        }
        scene.interrupt(50);
        fs::remove_file(scene.working(kind)).unwrap();
        scene.run(Begin::Resume, None).unwrap();
        scene.run(Begin::Resume, None).unwrap();
        assert_eq!(Manifest::verify(&scene.output).unwrap().records, scene.written.records);
    }
}
