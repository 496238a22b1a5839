//! Safetensors files, tensor by tensor: a model is never held twice in memory.

use crate::NativeError;
use crate::files;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Headers larger than this are refused, as in the reference implementation.
const LARGEST_HEADER_BYTES: u64 = 100_000_000;

/// Bytes read at once.
const PIECE_BYTES: usize = 1 << 20;

const DAMAGED: &str = "the file is damaged or incomplete: copy or download it again";

/// An open file whose header was checked against its length.
pub(crate) struct TensorFile {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    data_start: u64,
}

impl TensorFile {
    /// Opens a file and checks that its header describes exactly the bytes it has.
    pub(crate) fn open(path: &Path) -> Result<Self, NativeError> {
        let hint = "check the path and its permissions";
        let failed = |e| NativeError::file("read", path, e, hint);
        let mut file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let refuse = |problem: String| NativeError::checkpoint(path, problem, DAMAGED);
        if length < 8 {
            return Err(refuse(format!("has {length} bytes, too few for a safetensors file")));
        }
        let mut size = [0; 8];
        file.read_exact(&mut size).map_err(failed)?;
        let header_bytes = u64::from_le_bytes(size);
        if header_bytes > LARGEST_HEADER_BYTES || header_bytes > length - 8 {
            return Err(refuse(format!(
                "has {length} bytes but announces a header of {header_bytes}, so it is cut short or not safetensors"
            )));
        }
        let mut header = vec![0; header_bytes as usize];
        file.read_exact(&mut header).map_err(failed)?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|e| refuse(format!("has a header that is not valid safetensors: {e}")))?;
        let data_start = 8 + header_bytes;
        let wanted = data_start.checked_add(metadata.data_len() as u64);
        if wanted != Some(length) {
            return Err(refuse(format!(
                "has {length} bytes, its header describes {}: it is cut short or has surplus data",
                wanted.map_or("too many".into(), |w| w.to_string())
            )));
        }
        Ok(TensorFile { path: path.to_path_buf(), file, metadata, data_start })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Names in order of place.
    pub(crate) fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// Free-form notes of the header.
    pub(crate) fn note(&self, key: &str) -> Option<&str> {
        self.metadata.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// Shape of a tensor.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.metadata.info(name).map(|info| &info.shape[..])
    }

    /// Refuses a tensor that is absent, has another shape or a type that is not read.
    pub(crate) fn check(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo, NativeError> {
        let refuse = |problem: String, hint: &str| Err(NativeError::checkpoint(&self.path, problem, hint));
        let Some(info) = self.metadata.info(name) else {
            return refuse(
                format!("tensor `{name}` is missing"),
                "the file belongs to another kind of model",
            );
        };
        if info.shape != shape {
            let problem = format!("tensor `{name}` has shape {:?}, {shape:?} is needed", info.shape);
            return refuse(problem, "the weights belong to another configuration");
        }
        if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            let problem = format!("tensor `{name}` has type {:?}", info.dtype);
            return refuse(problem, "convert the weights to F32, F16 or BF16");
        }
        Ok(info)
    }

    /// Reads a tensor of this shape as f32 into `target`, refusing numbers that are not finite.
    pub(crate) fn read(
        &mut self,
        name: &str,
        shape: &[usize],
        target: &mut [f32],
    ) -> Result<(), NativeError> {
        let info = self.check(name, shape)?;
        let (dtype, start) = (info.dtype, self.data_start + info.data_offsets.0 as u64);
        let size = if dtype == Dtype::F32 { 4 } else { 2 };
        let path = &self.path;
        let failed = |e| NativeError::file("read", path, e, DAMAGED);
        self.file.seek(SeekFrom::Start(start)).map_err(failed)?;
        let mut piece = vec![0; PIECE_BYTES.min(target.len() * size)];
        for part in target.chunks_mut(PIECE_BYTES / size) {
            let bytes = &mut piece[..part.len() * size];
            self.file.read_exact(bytes).map_err(failed)?;
            match dtype {
                Dtype::F32 => convert(bytes, part, f32::from_le_bytes),
                Dtype::F16 => convert(bytes, part, |b| f16::from_le_bytes(b).to_f32()),
                _ => convert(bytes, part, |b| bf16::from_le_bytes(b).to_f32()),
            }
        }
        if let Some(at) = target.iter().position(|value| !value.is_finite()) {
            let problem = format!("tensor `{name}` holds {} at place {at}", target[at]);
            let hint = "the run that wrote it diverged, or the file is damaged: use an earlier checkpoint";
            return Err(NativeError::checkpoint(path, problem, hint));
        }
        Ok(())
    }
}

fn convert<const N: usize>(bytes: &[u8], target: &mut [f32], number: impl Fn([u8; N]) -> f32) {
    for (value, bytes) in target.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *value = number(*bytes);
    }
}

/// A tensor to be written.
pub(crate) struct Outgoing<'a> {
    pub name: String,
    pub shape: Vec<usize>,
    pub numbers: &'a [f32],
}

/// Writes tensors atomically, as f32 or rounded to bf16.
pub(crate) fn write(
    path: &Path,
    tensors: &[Outgoing<'_>],
    as_bf16: bool,
    mut notes: HashMap<String, String>,
) -> Result<(), NativeError> {
    let (dtype, size) = if as_bf16 { (Dtype::BF16, 2) } else { (Dtype::F32, 4) };
    let mut offset = 0;
    let described = tensors.iter().map(|tensor| {
        let data_offsets = (offset, offset + tensor.numbers.len() * size);
        offset = data_offsets.1;
        (tensor.name.clone(), TensorInfo { dtype, shape: tensor.shape.clone(), data_offsets })
    });
    let described = described.collect();
    // Hugging Face loaders insist on this note.
    notes.insert("format".into(), "pt".into());
    let refuse = |problem: String| NativeError::checkpoint(path, problem, "this is a mistake in the caller");
    let metadata =
        Metadata::new(Some(notes), described).map_err(|e| refuse(format!("cannot be described: {e}")))?;
    let mut header =
        serde_json::to_vec(&metadata).map_err(|e| refuse(format!("cannot be described: {e}")))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    files::write_atomically(path, |w| {
        w.write_all(&(header.len() as u64).to_le_bytes())?;
        w.write_all(&header)?;
        for tensor in tensors {
            write_numbers(w, tensor.numbers, as_bf16)?;
        }
        Ok(())
    })
}

fn write_numbers(w: &mut dyn Write, numbers: &[f32], as_bf16: bool) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(PIECE_BYTES);
    for part in numbers.chunks(PIECE_BYTES / 4) {
        bytes.clear();
        if as_bf16 {
            bytes.extend(part.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()));
        } else {
            bytes.extend(part.iter().flat_map(|v| v.to_le_bytes()));
        }
        w.write_all(&bytes)?;
    }
    Ok(())
}
