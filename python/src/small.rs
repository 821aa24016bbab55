//! Small batches of pyarrow's, taken as they lie in memory: making Arrow arrays of them first costs more than all the rest.

use std::ffi::c_void;
use std::slice;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use arrow::datatypes::Schema;
use arrow::ffi::FFI_ArrowArray;
use bowstring::client::{ColumnSlices, PlainLayout};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// The method that exports a batch: not of each version of pyarrow, and `_export_to_c` does not say where a batch lies.
const EXPORT: &str = "_export_to_c_device";
/// Memory that this processor reads (`ARROW_DEVICE_CPU`).
const CPU: i32 = 1;
/// The offsets of no strings: one, of four or eight bytes.
const NO_OFFSET: &[u8] = &[0; 8];

/// After one that could not be taken as it lies (large, or a slice of strings), so many are not even tried.
const PAUSE: u32 = 63;

/// What the batches of an appender are like, once one was appended.
#[derive(Default)]
pub(crate) struct Small {
    known: OnceLock<Option<Known>>,
    /// So many more are not tried.
    pause: AtomicU32,
}

struct Known {
    /// `pyarrow.RecordBatch`.
    kind: Py<PyType>,
    schema: Py<PyAny>,
    layouts: Vec<PlainLayout>,
}

/// `ArrowDeviceArray` (<https://arrow.apache.org/docs/format/CDeviceDataInterface.html>).
#[repr(C)]
struct DeviceArray {
    array: FFI_ArrowArray,
    device_id: i64,
    device_type: i32,
    sync_event: *mut c_void,
    reserved: [i64; 3],
}

/// A batch as pyarrow exports it. Frees it when dropped.
pub(crate) struct Exported<'a> {
    rows: FFI_ArrowArray,
    layouts: &'a [PlainLayout],
}

impl Small {
    /// Remembers a batch that was appended, of `schema`.
    pub(crate) fn learn(&self, value: &Bound<'_, PyAny>, schema: &Schema) {
        // Not `get_or_init`: who looks at Python objects may let the GIL go, and another thread would wait for the cell with it.
        if self.known.get().is_none() {
            let known = Known::of(value, schema);
            // Where another thread was faster, its batch was appended too.
            drop(self.known.set(known));
        }
    }

    /// The batch, if it is one of pyarrow's and like the one that was appended first.
    pub(crate) fn export(&self, value: &Bound<'_, PyAny>) -> PyResult<Option<Exported<'_>>> {
        let Some(Some(known)) = self.known.get() else { return Ok(None) };
        if self.pause.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Ok(None);
        }
        if known.describes(value)? { known.export(value) } else { Ok(None) }
    }

    /// One that was exported could not be taken.
    pub(crate) fn missed(&self) {
        self.pause.store(PAUSE, Relaxed);
    }
}

impl Known {
    fn of(value: &Bound<'_, PyAny>, schema: &Schema) -> Option<Self> {
        let layouts = PlainLayout::of_schema(schema)?;
        let kind = value.py().import("pyarrow").ok()?.getattr("RecordBatch").ok()?.cast_into::<PyType>().ok()?;
        let has_export = kind.hasattr(EXPORT).ok()?;
        let schema = (has_export && value.get_type().is(&kind)).then(|| value.getattr("schema").ok())??;
        Some(Self { kind: kind.unbind(), schema: schema.unbind(), layouts })
    }

    fn describes(&self, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = value.py();
        if !value.get_type().is(&self.kind) {
            return Ok(false);
        }
        let schema = value.getattr(intern!(py, "schema"))?;
        Ok(schema.is(&self.schema) || schema.call_method1(intern!(py, "equals"), (&self.schema, true))?.is_truthy()?)
    }

    /// The array alone: `__arrow_c_array__` exports the schema each time too. None if it lies in a GPU.
    fn export(&self, value: &Bound<'_, PyAny>) -> PyResult<Option<Exported<'_>>> {
        let array = FFI_ArrowArray::empty();
        let mut rows = DeviceArray { array, device_id: 0, device_type: 0, sync_event: std::ptr::null_mut(), reserved: [0; 3] };
        value.call_method1(intern!(value.py(), EXPORT), ((&raw mut rows).expose_provenance(),))?;
        Ok((rows.device_type == CPU).then_some(Exported { rows: rows.array, layouts: &self.layouts }))
    }
}

impl Exported<'_> {
    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The columns; none if they do not lie as messages have them.
    pub(crate) fn columns(&self) -> Option<Vec<ColumnSlices<'_>>> {
        let is_whole = self.rows.offset() == 0 && self.rows.num_children() == self.layouts.len();
        if !is_whole {
            return None;
        }
        self.layouts.iter().enumerate().map(|(index, layout)| column(self.rows.child(index), *layout, self.rows.len())).collect()
    }
}

/// None if it would have to be shifted, or does not say how many nulls it has.
fn column(array: &FFI_ArrowArray, layout: PlainLayout, rows: usize) -> Option<ColumnSlices<'_>> {
    let offset = array.offset();
    let buffers = if matches!(layout, PlainLayout::Variable(_)) { 3 } else { 2 };
    if array.len() != rows || array.num_buffers() != buffers {
        return None;
    }
    // SAFETY: by the C data interface an array of this type has these buffers with room for `offset + rows` values, which
    // nobody writes while the array is not released, and it outlives the slices.
    let bytes = |index, from: usize, length: usize| unsafe { at(array.buffer(index), from, length) };
    let nulls = if array.buffer(0).is_null() { 0 } else { array.null_count_opt()? };
    let bits = rows.div_ceil(8);
    if offset != 0 && (nulls > 0 || layout == PlainLayout::Bits) {
        return None;
    }
    let validity = if nulls > 0 { bytes(0, 0, bits)? } else { &[] };
    let (values, data) = match layout {
        PlainLayout::Bits => (bytes(1, 0, bits)?, &[][..]),
        PlainLayout::Fixed(width) => (bytes(1, offset * width, rows * width)?, &[][..]),
        // Without rows there need be no offset at all, in a buffer that is there all the same.
        PlainLayout::Variable(width) if rows == 0 => (NO_OFFSET.get(..width)?, &[][..]),
        PlainLayout::Variable(width) => {
            let offsets = bytes(1, offset * width, (rows + 1) * width)?;
            let last = offsets.get(rows * width..)?;
            let last =
                if width == 4 { i64::from(i32::from_le_bytes(last.try_into().ok()?)) } else { i64::from_le_bytes(last.try_into().ok()?) };
            (offsets, bytes(2, 0, usize::try_from(last).ok()?)?)
        }
    };
    Some(ColumnSlices { nulls, validity, values, data })
}

/// None if there is no buffer but should be.
///
/// # Safety
/// The buffer has `from + length` bytes, or is null.
unsafe fn at<'a>(buffer: *const u8, from: usize, length: usize) -> Option<&'a [u8]> {
    match (buffer.is_null(), length) {
        (_, 0) => Some(&[]),
        (true, _) => None,
        // SAFETY: as the caller says.
        (false, _) => Some(unsafe { slice::from_raw_parts(buffer.add(from), length) }),
    }
}
