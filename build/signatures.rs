//! Reads the signatures of exported kernels: `extern "C" __global__ void … name(type* a, const type* b, int c) {`.

use crate::Result;

/// An exported kernel.
pub struct Kernel {
    pub name: String,
    pub parameters: Vec<Parameter>,
}

/// One of its parameters.
#[derive(Clone, PartialEq)]
pub struct Parameter {
    pub name: String,
    /// Of the value, or of what the pointer points to.
    pub kind: Type,
    pub pointer: bool,
}

/// The types that may cross the border.
#[derive(Clone, Copy, PartialEq)]
pub enum Type {
    Float,
    Bf16,
    Double,
    Int,
    Uint8,
    Uint32,
    Uint64,
}

const TYPES: [(&str, Type); 7] = [
    ("float", Type::Float),
    ("bf16", Type::Bf16),
    ("double", Type::Double),
    ("int", Type::Int),
    ("uint8_t", Type::Uint8),
    ("uint32_t", Type::Uint32),
    ("uint64_t", Type::Uint64),
];

/// All kernels that a file exports.
pub fn parse(source: &str) -> Result<Vec<Kernel>> {
    let source = without_comments(source);
    source.split("extern \"C\" __global__ void").skip(1).map(kernel).collect()
}

fn kernel(rest: &str) -> Result<Kernel> {
    let rest = rest.trim_start();
    let rest = match rest.strip_prefix("__launch_bounds__") {
        Some(bounds) => bounds.split_once(')').ok_or("launch bounds without an end")?.1,
        None => rest,
    };
    let (name, rest) = rest.split_once('(').ok_or("a kernel without parameters")?;
    let (list, _) = rest.split_once(')').ok_or_else(|| format!("{name}: no closing parenthesis"))?;
    let parameters = list.split(',').map(|text| parameter(text).map_err(|e| format!("{name}: {e}")));
    Ok(Kernel { name: name.trim().to_owned(), parameters: parameters.collect::<Result<_>>()? })
}

fn parameter(text: &str) -> Result<Parameter> {
    let pointer = text.contains('*');
    let text = text.replace('*', " ");
    let words: Vec<_> =
        text.split_whitespace().filter(|word| !["const", "__restrict__"].contains(word)).collect();
    let [kind, name] = words[..] else {
        return Err(format!("parameter `{text}`: expected a type and a name"));
    };
    let known = TYPES.iter().find(|(spelling, _)| *spelling == kind);
    let (_, kind) = known.ok_or_else(|| format!("parameter `{name}`: no type `{kind}` in the dialect"))?;
    // Sizes are capitals in kernels, which Rust's names are not.
    Ok(Parameter { name: name.to_lowercase(), kind: *kind, pointer })
}

fn without_comments(source: &str) -> String {
    let mut text: String =
        source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    while let Some(start) = text.find("/*") {
        let end = text[start..].find("*/").map_or(text.len(), |end| start + end + 2);
        text.replace_range(start..end, " ");
    }
    text
}
