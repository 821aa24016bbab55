package io.bowstring.spark;

import java.util.Objects;
import org.apache.arrow.vector.BigIntVector;
import org.apache.arrow.vector.BitVector;
import org.apache.arrow.vector.DateDayVector;
import org.apache.arrow.vector.DurationVector;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.Float4Vector;
import org.apache.arrow.vector.Float8Vector;
import org.apache.arrow.vector.IntVector;
import org.apache.arrow.vector.IntervalYearVector;
import org.apache.arrow.vector.SmallIntVector;
import org.apache.arrow.vector.TimeStampMicroTZVector;
import org.apache.arrow.vector.TimeStampMicroVector;
import org.apache.arrow.vector.TinyIntVector;
import org.apache.arrow.vector.VarBinaryVector;
import org.apache.arrow.vector.VarCharVector;
import org.apache.arrow.vector.types.TimeUnit;
import org.apache.spark.unsafe.Platform;
import org.apache.spark.unsafe.types.UTF8String;

/**
 * A column of numbers, times, text or bytes whose memory its reader lets go, read straight from that memory: Arrow's vectors check each value's
 * place in each of their buffers, Spark's before that whether it is null. Here one check keeps a row within the batch, also one that is read
 * after the batch is gone.
 */
final class PlainColumn extends HeldColumn {
  private final FieldVector vector;
  private int rows;

  /** 0 if no row is null. */
  private long validity;

  private long offsets;
  private long values;

  PlainColumn(FieldVector vector) {
    super(vector);
    this.vector = vector;
  }

  static boolean isKnown(FieldVector vector) {
    return vector instanceof BitVector
        || vector instanceof TinyIntVector
        || vector instanceof SmallIntVector
        || vector instanceof IntVector
        || vector instanceof DateDayVector
        || vector instanceof IntervalYearVector
        || vector instanceof Float4Vector
        || isOfEightBytes(vector)
        || isOfBytes(vector);
  }

  private static boolean isOfEightBytes(FieldVector vector) {
    return vector instanceof BigIntVector
        || vector instanceof Float8Vector
        || vector instanceof TimeStampMicroVector
        || vector instanceof TimeStampMicroTZVector
        || (vector instanceof DurationVector duration && duration.getUnit() == TimeUnit.MICROSECOND);
  }

  private static boolean isOfBytes(FieldVector vector) {
    return vector instanceof VarCharVector || vector instanceof VarBinaryVector;
  }

  /** The vector has been given a batch. */
  void look() {
    rows = vector.getValueCount();
    validity = vector.getNullCount() == 0 ? 0 : vector.getValidityBufferAddress();
    values = vector.getDataBufferAddress();
    offsets = isOfBytes(vector) ? vector.getOffsetBufferAddress() : 0;
  }

  /** The vector's batch goes. */
  void forget() {
    rows = 0;
  }

  private long at(int row) {
    return Objects.checkIndex(row, rows);
  }

  @Override
  public boolean hasNull() {
    return validity != 0;
  }

  @Override
  public boolean isNullAt(int row) {
    long at = at(row);
    return validity != 0 && !bit(validity, at);
  }

  private static boolean bit(long bits, long at) {
    return (Platform.getByte(null, bits + (at >> 3)) & 1 << (at & 7)) != 0;
  }

  @Override
  public boolean getBoolean(int row) {
    return bit(values, at(row));
  }

  @Override
  public byte getByte(int row) {
    return Platform.getByte(null, values + at(row));
  }

  @Override
  public short getShort(int row) {
    return Platform.getShort(null, values + 2 * at(row));
  }

  @Override
  public int getInt(int row) {
    return Platform.getInt(null, values + 4 * at(row));
  }

  @Override
  public long getLong(int row) {
    return Platform.getLong(null, values + 8 * at(row));
  }

  @Override
  public float getFloat(int row) {
    return Platform.getFloat(null, values + 4 * at(row));
  }

  @Override
  public double getDouble(int row) {
    return Platform.getDouble(null, values + 8 * at(row));
  }

  @Override
  public UTF8String getUTF8String(int row) {
    if (isNullAt(row)) {
      return null;
    }
    int start = start(row);
    return UTF8String.fromAddress(null, values + start, start(row + 1) - start);
  }

  @Override
  public byte[] getBinary(int row) {
    if (isNullAt(row)) {
      return null;
    }
    int start = start(row);
    byte[] bytes = new byte[start(row + 1) - start];
    Platform.copyMemory(null, values + start, bytes, Platform.BYTE_ARRAY_OFFSET, bytes.length);
    return bytes;
  }

  /** Where a row's bytes begin, or those of the row before it end. */
  private int start(int row) {
    return Platform.getInt(null, offsets + 4L * row);
  }
}
