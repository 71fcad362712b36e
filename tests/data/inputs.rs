//! Which files are read, in which order, and how far reading has come.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use toedit::data::{Format, Inputs, ReadOptions};

use crate::{assert_error, documents, gzip, put, texts, zstd};

fn expand(paths: &[&Path]) -> toedit::Result<Inputs> {
    let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
    Inputs::expand(&paths)
}

#[test]
fn a_folder_stands_for_its_files_in_name_order() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    let line = |text: &str| format!("{{\"text\":\"{text}\"}}\n");
    put(&root, "b.jsonl", line("b"));
    put(&root, "a.json", line("a"));
    put(&root, "c/d.jsonl.gz", gzip(line("c/d").as_bytes()));
    put(&root, "e.json.zst", zstd(line("e").as_bytes()));
    put(&root, "F.TXT", "F");
    put(&root, "g.txt.gz", gzip(b"g"));
    put(&root, "README.md", "no");
    put(&root, "h.gz", gzip(b"no"));
    put(&root, ".hidden.jsonl", "no");
    put(&root, ".git/x.jsonl", "no");
    let elsewhere = put(folder.path(), "elsewhere", line("link"));
    symlink(&elsewhere, root.join("z.jsonl")).unwrap();
    let inputs = expand(&[&root]).unwrap();
    let names: Vec<_> = inputs.files().iter().map(|file| file.relative.to_str().unwrap()).collect();
    assert_eq!(names, ["F.TXT", "a.json", "b.jsonl", "c/d.jsonl.gz", "e.json.zst", "g.txt.gz", "z.jsonl"]);
    assert_eq!(inputs.files()[5].format, Format::Text);
    let sizes: u64 = inputs.files().iter().map(|file| fs::metadata(&file.path).unwrap().len()).sum();
    let mut documents = inputs.documents(ReadOptions::default()).unwrap();
    let progress = documents.progress();
    assert_eq!((progress.read(), progress.total()), (0, Some(sizes)));
    let documents: Vec<_> = documents.by_ref().map(Result::unwrap).collect();
    let origin: Vec<_> = documents.iter().map(|document| (document.file(), document.index())).collect();
    assert_eq!(origin, (0..7).map(|file| (file, 0)).collect::<Vec<_>>());
    let found: Vec<_> = documents.iter().map(|document| document.text().unwrap()).collect();
    assert_eq!(found, ["F", "a", "b", "c/d", "e", "g", "link"]);
    assert_eq!(progress.read(), sizes);
}

#[test]
fn a_pattern_stands_for_what_it_matches_in_name_order() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b-2.jsonl", "b-10.jsonl", "a.jsonl", ".b-0.jsonl", "c/b-3.jsonl", "c/d/b-4.jsonl"] {
        put(folder.path(), name, "{\"text\":\"x\"}\n");
    }
    put(folder.path(), "b-2.jsonl.manifest", "{}");
    put(folder.path(), "[x]*.jsonl", "{\"text\":\"x\"}\n");
    let names = |pattern: &str| -> Vec<String> {
        let inputs = expand(&[&folder.path().join(pattern)]).unwrap();
        inputs.files().iter().map(|file| file.relative.to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("b-*"), ["b-10.jsonl", "b-2.jsonl"]);
    assert_eq!(names("b-?.jsonl"), ["b-2.jsonl"]);
    assert_eq!(names("b-[1-9]*.jsonl"), ["b-10.jsonl", "b-2.jsonl"]);
    assert_eq!(names("**/b-[34].jsonl"), ["b-3.jsonl", "b-4.jsonl"]);
    assert_eq!(names("c*"), ["b-3.jsonl", "d/b-4.jsonl"], "a folder that matches is read as a folder");
    // A file that has such a name is meant.
    assert_eq!(names("[x]*.jsonl"), ["[x]*.jsonl"]);
    for (pattern, part) in [("e*", "nothing matches"), ("a[", "Pattern syntax error")] {
        let error = expand(&[&folder.path().join(pattern)]).unwrap_err().to_string();
        assert!(error.contains(pattern) && error.contains(part), "{error}");
    }
}

#[test]
fn a_file_is_read_whatever_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = put(folder.path(), ".corpus", "{\"text\":\"a\"}");
    let inputs = expand(&[&path, &path]).unwrap();
    assert_eq!(texts(inputs.documents(ReadOptions::default()).unwrap().collect()), ["a", "a"]);
}

#[test]
fn what_cannot_be_read_is_known_up_front() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    assert_error(expand(&[]), "", "no input");
    assert_error(expand(&[&root.join("missing")]), "missing", "No such file");
    assert_error(expand(&[Path::new("/dev/null")]), "/dev/null", "neither a regular file");
    assert_error(expand(&[Path::new("-"), Path::new("-")]), "`-`", "only once");
    fs::create_dir(root.join("empty")).unwrap();
    assert_error(expand(&[&root.join("empty")]), "empty", "no .jsonl, .json or .txt file");
    symlink("a.jsonl", root.join("a.jsonl")).unwrap();
    assert_error(expand(&[&root.join("a.jsonl")]), "a.jsonl", "symbolic links");
    assert_error(expand(&[root]), "a.jsonl", "symbolic links");
    symlink("gone", root.join("empty/b.jsonl")).unwrap();
    assert_error(expand(&[&root.join("empty")]), "b.jsonl", "No such file");
}

#[test]
fn a_folder_that_links_back_is_refused_and_one_that_links_aside_is_read() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "in/a.jsonl", "");
    put(folder.path(), "aside/b.jsonl", "");
    symlink(folder.path().join("aside"), folder.path().join("in/c")).unwrap();
    assert_eq!(expand(&[&folder.path().join("in")]).unwrap().files().len(), 2);
    symlink(folder.path(), folder.path().join("aside/up")).unwrap();
    assert_error(expand(&[&folder.path().join("in")]), "up", "links back");
}

#[test]
fn an_input_that_vanishes_ends_the_documents_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (put(folder.path(), "a.jsonl", "{\"text\":\"a\"}"), put(folder.path(), "b.jsonl", ""));
    let inputs = expand(&[&a, &b, &a]).unwrap();
    let mut documents = inputs.documents(ReadOptions::default()).unwrap();
    assert!(documents.next().unwrap().is_ok());
    fs::remove_file(&b).unwrap();
    assert_error(documents.next().unwrap(), "b.jsonl", "No such file");
    assert!(documents.next().is_none());
}

#[test]
fn pipes_are_streams() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let inputs = expand(&[&path]).unwrap();
    assert_eq!(inputs.total_bytes(), None);
    let bytes = [gzip(b"{\"text\":\"a\"}\n"), gzip(b"{\"text\":\"b\"}\n")].concat();
    let writer = std::thread::spawn(move || fs::write(path, bytes).unwrap());
    assert_eq!(texts(inputs.documents(ReadOptions::default()).unwrap().collect()), ["a", "b"]);
    writer.join().unwrap();
}

/// What was made of it would be of neither state.
#[test]
fn an_input_that_changes_while_it_is_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.jsonl", "a.jsonl.gz"] {
        let lines = "{\"text\":\"a\"}\n".repeat(200_000);
        let bytes = if name.ends_with("gz") { gzip(lines.as_bytes()) } else { lines.into_bytes() };
        for change in ["grows", "shrinks", "is touched"] {
            let path = put(folder.path(), name, &bytes);
            let mut documents = documents(&path);
            documents.next().unwrap().unwrap();
            let file = fs::File::options().append(true).open(&path).unwrap();
            match change {
                "grows" => (&file).write_all(&gzip(b"{\"text\":\"b\"}\n")).unwrap(),
                "shrinks" => file.set_len(bytes.len() as u64 - 1).unwrap(),
                _ => file.set_modified(std::time::UNIX_EPOCH).unwrap(),
            }
            let errors: Vec<_> = documents.filter_map(Result::err).collect();
            let message = errors.last().unwrap().to_string();
            let cut = change == "shrinks" && name.ends_with("gz") && message.contains("too early");
            assert!(
                message.contains(name) && (message.contains("changed while") || cut),
                "{change}: {message}"
            );
        }
        let path = put(folder.path(), name, &bytes);
        assert_eq!(documents(&path).filter_map(Result::ok).count(), 200_000);
    }
}
