//! Which shard a job scheduler or launcher has given to this process.

use super::{Shard, digits};
use crate::{Error, Result};

/// Ranks of a launcher: its name, and the variables of a process' number and of how many there are.
const LAUNCHERS: [(&str, &str, &str); 2] =
    [("OpenMPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("torchrun", "RANK", "WORLD_SIZE")];

/// The shard that `variable` tells of. A launcher that has started one process alone says nothing where
/// another says more.
pub(super) fn shard(variable: impl Fn(&str) -> Option<String>) -> Result<Shard> {
    let mut found: Vec<(&str, Shard)> = Vec::new();
    let array = slurm(&variable)?.map(|shard| ("Slurm's array", shard));
    let ranks = LAUNCHERS.iter().map(|&(name, rank, size)| {
        let rank = number(&variable, rank)?;
        let Some(rank) = rank else { return Ok(None) };
        Ok(Some((name, Shard::new(rank, required(&variable, size)?)?)))
    });
    for source in std::iter::once(Ok(array)).chain(ranks) {
        found.extend(source?);
    }
    if found.iter().any(|(_, shard)| shard.count > 1) {
        found.retain(|(_, shard)| shard.count > 1);
    }
    let Some(&(first, shard)) = found.first() else {
        return Err(Error::Usage(
            "--shard auto: found no array task of Slurm and no rank of OpenMPI or torchrun in the environment: \
             give --shard I/N"
                .into(),
        ));
    };
    match found.iter().find(|(_, other)| *other != shard) {
        None => Ok(shard),
        Some((second, other)) => Err(Error::Usage(format!(
            "--shard auto: {first} says {shard} and {second} says {other}: give --shard I/N"
        ))),
    }
}

/// The place of an array's task among all of them; their ids may begin anywhere and be spaced evenly.
fn slurm(variable: &impl Fn(&str) -> Option<String>) -> Result<Option<Shard>> {
    let Some(id) = number(variable, "SLURM_ARRAY_TASK_ID")? else {
        return Ok(None);
    };
    let count = required(variable, "SLURM_ARRAY_TASK_COUNT")?;
    let min = number(variable, "SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
    let max = number(variable, "SLURM_ARRAY_TASK_MAX")?;
    let step = number(variable, "SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
    let place = id.checked_sub(min).filter(|distance| distance % step == 0).map(|distance| distance / step);
    let fits = max.is_none_or(|max| max.checked_sub(min).is_some_and(|span| span / step + 1 == count));
    match place.filter(|&place| place < count && fits) {
        Some(place) => Shard::new(place, count).map(Some),
        // A part of an array, submitted again, would take the shards of a smaller one.
        None => Err(Error::Usage(format!(
            "--shard auto: task {id} of a Slurm array of {count} tasks from {min} on that are not evenly spaced: \
             give --shard I/N"
        ))),
    }
}

fn number(variable: &impl Fn(&str) -> Option<String>, name: &str) -> Result<Option<u32>> {
    let Some(value) = variable(name) else { return Ok(None) };
    let number = digits(&value);
    let bad =
        || Error::Usage(format!("--shard auto: {name} is `{value}`, expected a number: give --shard I/N"));
    number.ok_or_else(bad).map(Some)
}

fn required(variable: &impl Fn(&str) -> Option<String>, name: &str) -> Result<u32> {
    let missing = || Error::Usage(format!("--shard auto: {name} is not set: give --shard I/N"));
    number(variable, name)?.ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &str) -> Result<Shard> {
        shard(|name| {
            let mut pairs = variables.split(' ').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        })
    }

    #[test]
    fn launchers_are_understood() {
        const ARRAY: &str = "SLURM_ARRAY_TASK_ID=5 SLURM_ARRAY_TASK_COUNT=8";
        let spaced = "SLURM_ARRAY_TASK_ID=14 SLURM_ARRAY_TASK_COUNT=3 SLURM_ARRAY_TASK_MIN=10 \
                      SLURM_ARRAY_TASK_MAX=14 SLURM_ARRAY_TASK_STEP=2";
        let table = [
            (ARRAY.to_owned(), "5/8"),
            (format!("{ARRAY} SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=8"), "4/8"),
            (spaced.to_owned(), "2/3"),
            ("OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=4".to_owned(), "0/4"),
            ("RANK=3 WORLD_SIZE=4 LOCAL_RANK=1".to_owned(), "3/4"),
            (format!("{ARRAY} RANK=0 WORLD_SIZE=1"), "5/8"),
            (format!("{ARRAY} RANK=5 WORLD_SIZE=8"), "5/8"),
            ("RANK=0 WORLD_SIZE=1".to_owned(), "0/1"),
        ];
        for (variables, expected) in table {
            assert_eq!(read(&variables).unwrap().to_string(), expected, "{variables}");
        }
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        let table = [
            ("", "found no array task"),
            ("SLURM_ARRAY_TASK_ID=1", "SLURM_ARRAY_TASK_COUNT is not set"),
            ("SLURM_ARRAY_TASK_ID=x SLURM_ARRAY_TASK_COUNT=2", "`x`, expected a number"),
            ("SLURM_ARRAY_TASK_ID=8 SLURM_ARRAY_TASK_COUNT=8", "not evenly spaced"),
            ("SLURM_ARRAY_TASK_ID=0 SLURM_ARRAY_TASK_COUNT=2 SLURM_ARRAY_TASK_MIN=1", "not evenly spaced"),
            // `--array=3,5,6`: the rest of an array of seven, submitted again.
            (
                "SLURM_ARRAY_TASK_ID=5 SLURM_ARRAY_TASK_COUNT=3 SLURM_ARRAY_TASK_MIN=3 SLURM_ARRAY_TASK_MAX=6",
                "not evenly spaced",
            ),
            ("RANK=1", "WORLD_SIZE is not set"),
            ("RANK=-1 WORLD_SIZE=2", "`-1`, expected a number"),
            ("RANK=2 WORLD_SIZE=2", "expected I/N"),
            ("RANK=1 WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=4", "torchrun says 1/2"),
        ];
        for (variables, what) in table {
            let message = read(variables).unwrap_err().to_string();
            assert!(message.contains(what), "{variables}: {message}");
        }
    }
}
