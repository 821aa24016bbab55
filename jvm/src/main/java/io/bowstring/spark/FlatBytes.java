package io.bowstring.spark;

import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.catalyst.expressions.UnsafeRow;
import org.apache.spark.unsafe.Platform;
import org.apache.spark.unsafe.types.UTF8String;

/** A column of text or bytes: where each value ends, and the values. */
final class FlatBytes extends FlatColumn {
  /** Bytes that there is room for at first. */
  private static final long FIRST_BYTES = 16 << 10;

  /** Values up to here are copied by words; Spark keeps them so that this reads nothing that is not theirs. */
  private static final int SHORT_BYTES = 64;

  private static final int WORD = 8;

  /** Arrow's offsets end here. Invariant: room is never more, so that what fits into it fits them. */
  private static final long ROOM_MAX = Integer.MAX_VALUE;

  private final boolean isText;

  /** Where each value begins, and at last where the last one ends. */
  private long offsets;

  private long values;
  private long room = FIRST_BYTES;
  private int used;

  FlatBytes(int ordinal, int rows, boolean isText) {
    super(ordinal, rows);
    this.isText = isText;
    offsets = Platform.allocateMemory(bytesOfOffsets(rows));
    values = Platform.allocateMemory(room);
    Platform.putInt(null, offsets, 0);
  }

  private static long bytesOfOffsets(int rows) {
    return 4L * (rows + 1L);
  }

  @Override
  void writeNull(int at) {
    Platform.putInt(null, offsets + 4L * (at + 1L), used);
  }

  @Override
  void writeValue(InternalRow row, int at) {
    if (row instanceof UnsafeRow unsafe) {
      long place = unsafe.getLong(ordinal);
      append(unsafe.getBaseObject(), unsafe.getBaseOffset() + (place >>> 32), (int) place);
    } else if (isText) {
      UTF8String text = row.getUTF8String(ordinal);
      append(text.getBytes());
    } else {
      append(row.getBinary(ordinal));
    }
    Platform.putInt(null, offsets + 4L * (at + 1L), used);
  }

  /** A value of an {@link UnsafeRow}, which fills its values up to whole words. */
  private void append(Object base, long offset, int size) {
    makeRoomFor(size);
    long to = values + used;
    if (size <= SHORT_BYTES) {
      for (int at = 0; at < size; at += WORD) {
        Platform.putLong(null, to + at, Platform.getLong(base, offset + at));
      }
    } else {
      Platform.copyMemory(base, offset, null, to, size);
    }
    used += size;
  }

  private void append(byte[] bytes) {
    makeRoomFor(bytes.length);
    Platform.copyMemory(bytes, Platform.BYTE_ARRAY_OFFSET, null, values + used, bytes.length);
    used += bytes.length;
  }

  /** A word more than the value, so that it can be copied by words. */
  private void makeRoomFor(int size) {
    long needed = (long) used + size + WORD;
    if (needed <= room) {
      return;
    }
    if (needed > ROOM_MAX) {
      throw new BowstringException(
          "batch_too_large",
          false,
          "a column has more than 2 GiB in one batch, of which the value written now is " + size + " bytes; lower"
              + " spark.sql.execution.arrow.maxRecordsPerBatch, or write smaller values");
    }
    long more = Math.min(Math.max(needed, room * 2), ROOM_MAX);
    values = Platform.reallocateMemory(values, used, more);
    room = more;
  }

  @Override
  long bytes(int rows) {
    return bits(rows) + bytesOfOffsets(rows) + used;
  }

  @Override
  int buffers() {
    return 3;
  }

  @Override
  int places(int rows, long[] places, int at) {
    int next = place(offsets, bytesOfOffsets(rows), places, placeOfValidity(rows, places, at));
    return place(values, used, places, next);
  }

  @Override
  void makeRoom(int rows, int more) {
    super.makeRoom(rows, more);
    offsets = Platform.reallocateMemory(offsets, bytesOfOffsets(rows), bytesOfOffsets(more));
  }

  @Override
  void reset(int rows) {
    super.reset(rows);
    used = 0;
  }

  @Override
  void close() {
    super.close();
    Platform.freeMemory(offsets);
    Platform.freeMemory(values);
    offsets = 0;
    values = 0;
  }
}
