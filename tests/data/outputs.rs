//! Where documents go, and that nothing stands under a final name before it is complete.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use toedit::data::{
    Begin, Inputs, Manifest, Mark, Member, OutputWriter, Outputs, Patch, Payload, ReadOptions, Sink,
    WriteConfig,
};
use toedit::{Error, Result};

use crate::{assert_error, gzip, put, read, texts};

/// The visible and hidden names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Begins to write, counting documents.
fn writer(outputs: Outputs) -> Result<OutputWriter<u64>> {
    outputs.writer(WriteConfig::new(Begin::New))
}

/// Copies documents from `paths` to `output`, changing nothing.
fn copy(paths: &[PathBuf], output: &Path) -> Result<Vec<PathBuf>> {
    let inputs = Inputs::expand(paths)?;
    let outputs = Outputs::plan(&inputs, output, Payload::Documents)?;
    outputs.check(Begin::New)?;
    let written = outputs.paths().to_vec();
    let mut writer = writer(outputs)?;
    for document in inputs.documents(ReadOptions::default())?.with_plan(writer.read_plan()) {
        writer.write(&document?, &Patch::default(), &1)?;
    }
    let count = writer.finish()?.counts;
    assert_eq!(
        count,
        written.iter().map(|path| Manifest::verify(path).unwrap().records.written).sum::<u64>()
    );
    Ok(written)
}

#[test]
fn a_sink_shows_its_name_only_when_finished() {
    for name in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let partial = format!(".{name}.partial");
        Sink::check(&path, false).unwrap();
        assert!(names(folder.path()).is_empty(), "a check leaves nothing");
        let mut sink = Sink::create(&path, false).unwrap();
        sink.write(&vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(names(folder.path()), [partial.as_str()]);
        drop(sink);
        assert_eq!(names(folder.path()), [partial.as_str()]);

        let mut sink = Sink::create(&path, false).unwrap();
        sink.write(b"{\"text\":\"new\"}\n").unwrap();
        sink.finish().unwrap();
        assert_eq!(names(folder.path()), [name]);
        assert_eq!(texts(read(&path)), ["new"], "nothing of the earlier partial file is left");
    }
}

#[test]
fn an_existing_output_is_kept_unless_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = put(folder.path(), "a.jsonl", "old");
    assert_error(Sink::check(&path, false), "a.jsonl", "exists already");
    assert_error(Sink::create(&path, false), "a.jsonl", "exists already");
    let mut sink = Sink::create(&path, true).unwrap();
    sink.write(b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old");
    drop(sink);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    let mut sink = Sink::create(&path, true).unwrap();
    sink.write(b"new").unwrap();
    sink.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn a_name_taken_during_the_run_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    let sink = Sink::create(&path, false).unwrap();
    put(folder.path(), "a.jsonl", "other");
    assert_error(sink.finish(), "a.jsonl", "exists already");
    assert_eq!(fs::read(&path).unwrap(), b"other");
}

#[test]
fn two_writers_of_one_output_exclude_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    let mut first = Sink::create(&path, true).unwrap();
    first.write(b"first").unwrap();
    let busy = Sink::create(&path, true);
    assert!(matches!(&busy, Err(error @ Error::Busy { .. }) if error.exit_status() == 75));
    assert_error(busy, ".a.jsonl.partial", "another process");
    first.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"first");
    Sink::create(&path, true).unwrap().finish().unwrap();
}

#[test]
fn outputs_that_cannot_be_made_are_known_up_front() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(root, "file", "");
    fs::create_dir(root.join("folder")).unwrap();
    assert_error(Sink::check(&root.join("missing/a.jsonl"), false), "missing", "No such file");
    assert_error(Sink::check(&root.join("file/a.jsonl"), false), "file", "Not a directory");
    assert_error(Sink::check(&root.join("folder"), true), "folder", "not a regular file");
    assert_error(Sink::check(Path::new("/dev/null"), true), "/dev/null", "not a regular file");
    assert_error(Sink::check(Path::new("/proc/a.jsonl"), true), "/proc", "");
    Sink::check(Path::new("-"), false).unwrap();
}

#[test]
fn a_partial_file_that_is_a_link_is_not_written_through() {
    let folder = tempfile::tempdir().unwrap();
    let victim = put(folder.path(), "victim", "kept");
    symlink(&victim, folder.path().join(".a.jsonl.partial")).unwrap();
    assert_error(Sink::create(&folder.path().join("a.jsonl"), true), "partial", "is a link");
    assert_eq!(fs::read(&victim).unwrap(), b"kept");
}

#[test]
fn one_output_for_each_input() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(root, "in/a.jsonl", "{\"text\":\"a\"}\r\n\n{ \"text\" : \"b\" }");
    put(root, "in/b/c.jsonl.gz", gzip(b"{\"text\":\"c\"}\n"));
    put(root, "in/b/empty.jsonl", "");
    put(root, "in/d.txt", "\u{feff}text\r\n");
    put(root, "in/last.json", "");
    let output = root.join("out/made");
    let written = copy(&[root.join("in")], &output).unwrap();
    let manifests = |names: &[&str]| {
        names.iter().flat_map(|name| [name.to_string(), format!("{name}.manifest")]).collect::<Vec<_>>()
    };
    let mut expected = manifests(&["a.jsonl", "d.txt", "last.json"]);
    expected.insert(2, "b".to_owned());
    assert_eq!(names(&output), expected);
    assert_eq!(names(&output.join("b")), manifests(&["c.jsonl.gz", "empty.jsonl"]));
    assert_eq!(fs::read(&written[0]).unwrap(), b"{\"text\":\"a\"}\r\n{ \"text\" : \"b\" }\n");
    assert_eq!(&fs::read(&written[1]).unwrap()[..2], [0x1f, 0x8b]);
    assert_eq!(texts(read(&written[1])), ["c"]);
    assert_eq!(fs::read(&written[3]).unwrap(), "\u{feff}text\r\n".as_bytes());
    assert_error(copy(&[root.join("in")], &output), "a.jsonl", "exists already");
}

#[test]
fn all_into_one_file_of_another_format() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let a = put(root, "a.jsonl.gz", gzip(b"{\"text\":\"a\"}\n{\"input_ids\":[1]}\n"));
    let b = put(root, "b.txt", "b\n");
    copy(&[a.clone(), b.clone()], &root.join("all.jsonl.zst")).unwrap();
    assert_eq!(fs::read(root.join("all.jsonl.zst")).unwrap()[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    copy(&[root.join("all.jsonl.zst")], &root.join("plain.json")).unwrap();
    let expected = "{\"text\":\"a\"}\n{\"input_ids\":[1]}\n{\"text\":\"b\\n\"}\n";
    assert_eq!(fs::read_to_string(root.join("plain.json")).unwrap(), expected);

    copy(std::slice::from_ref(&b), &root.join("c.txt.gz")).unwrap();
    assert_eq!(texts(read(&root.join("c.txt.gz"))), ["b\n"]);
    assert_error(copy(&[b.clone(), b.clone()], &root.join("d.txt")), "d.txt", "found 2 files");
    let two = put(root, "two.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\"}\n");
    assert_error(copy(&[two], &root.join("d.txt")), "d.txt", "exactly one document, found more");
    assert_error(copy(&[put(root, "no.jsonl", "")], &root.join("d.txt")), "d.txt", "found none");
    assert!(!root.join("d.txt").exists());
}

#[test]
fn plans_that_would_do_harm_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let (a, b) = (put(root, "x/a.jsonl", ""), put(root, "y/a.jsonl", ""));
    let inputs = |paths: &[&PathBuf]| {
        let paths: Vec<_> = paths.iter().map(|path| path.to_path_buf()).collect();
        Inputs::expand(&paths).unwrap()
    };
    let plan = |paths: &[&PathBuf], output: &str| {
        Outputs::plan(&inputs(paths), &root.join(output), Payload::Documents)
    };
    assert_error(plan(&[&a, &b], "out"), "out/a.jsonl", "inputs 1 and 2");
    assert_error(plan(&[&a], "x/a.jsonl"), "a.jsonl", "both input and output");
    assert_error(plan(&[&a], "x"), "a.jsonl", "both input and output");
    assert_error(plan(&[&a], "y/../x/./a.jsonl"), "a.jsonl", "both input and output");
    symlink(&a, root.join("link.jsonl")).unwrap();
    assert_error(plan(&[&a], "link.jsonl"), "link.jsonl", "both input and output");
    assert_error(plan(&[&root.join("x")], "x/out/deep"), "x", "contains the output");
    assert_error(plan(&[&root.join("x")], "x/b.jsonl"), "x", "contains the output");
    assert_error(plan(&[&root.join("x")], "y/../x/b.jsonl"), "x", "contains the output");
    put(root, "taken", "");
    assert_error(plan(&[&a], "taken"), "taken", "neither a folder");
    assert_error(plan(&[&a], "a.gz"), "a.gz", "no format");
    let single = plan(&[&a, &b], "out.jsonl").unwrap();
    assert_eq!(single.paths(), [root.join("out.jsonl")]);
    let dotted = plan(&[&a], "threshold-0.99").unwrap();
    assert_eq!(dotted.paths(), [root.join("threshold-0.99/a.jsonl")]);
    let dash = Outputs::plan(&inputs(&[&root.join("x"), &b]), Path::new("-"), Payload::Documents).unwrap();
    assert_eq!(dash.paths(), [PathBuf::from("-")]);
}

#[test]
fn lines_about_documents() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in ["a.txt", "b.txt.gz", "c.jsonl.zst"] {
        put(root, &format!("in/{name}"), "x");
    }
    let inputs = Inputs::expand(&[root.join("in")]).unwrap();
    let outputs = Outputs::plan(&inputs, &root.join("out"), Payload::Lines).unwrap();
    let mut writer = writer(outputs).unwrap();
    let mark = |file| Mark { file, ..Mark::default() };
    writer.write_line(mark(0), "{}", &1).unwrap();
    writer.write_line(mark(2), "1", &1).unwrap();
    assert_error(writer.write_line(mark(1), "late", &1), "", "order of the inputs");
    assert_eq!(writer.finish().unwrap().counts, 2);
    let mut written = names(&root.join("out"));
    written.retain(|name| !name.ends_with(".manifest"));
    assert_eq!(written, ["a.jsonl", "b.jsonl.gz", "c.jsonl.zst"]);
    assert_eq!(fs::read(root.join("out/a.jsonl")).unwrap(), b"{}\n");
    assert_error(Outputs::plan(&inputs, &root.join("a.txt"), Payload::Lines), "a.txt", "expected .jsonl");
}

#[test]
fn an_unfinished_run_leaves_finished_files_and_a_partial_one() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(root, "in/a.jsonl", "{\"text\":\"a\"}\n");
    put(root, "in/b.jsonl", "{\"text\":\"b\"}\n{\"text\":5}\n");
    assert_error(copy(&[root.join("in")], &root.join("out")), "b.jsonl:2: ", "expected a string");
    let left = names(&root.join("out"));
    assert_eq!(&left[2..], ["a.jsonl", "a.jsonl.manifest"]);
    assert!(left[0].starts_with(".b.jsonl.") && left[0].ends_with(".journal"), "{left:?}");
    assert!(left[1].starts_with(".b.jsonl.") && left[1].ends_with(".partial"), "{left:?}");
}

#[test]
fn patches_reach_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = put(folder.path(), "a.jsonl", "{\"text\":\"a\"}");
    let inputs = Inputs::expand(&[path]).unwrap();
    let output = folder.path().join("b.jsonl");
    let mut writer = writer(Outputs::plan(&inputs, &output, Payload::Documents).unwrap()).unwrap();
    for document in inputs.documents(ReadOptions::default()).unwrap() {
        let patch = Patch { metadata: Member::Set("{}"), ..Patch::default() };
        writer.write(&document.unwrap(), &patch, &1).unwrap();
    }
    writer.finish().unwrap();
    assert_eq!(fs::read(output).unwrap(), b"{\"text\":\"a\",\"toedit\":{}}\n");
}
