package io.bowstring.spark;

import java.math.BigInteger;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.types.Decimal;
import org.apache.spark.unsafe.Platform;

/** A column of decimals: 16 bytes each, the unscaled number, the lowest byte first. */
final class FlatDecimals extends FlatColumn {
  private static final int WIDTH = 16;

  private final int precision;
  private final int scale;
  private long values;

  FlatDecimals(int ordinal, int room, int precision, int scale) {
    super(ordinal, room);
    this.precision = precision;
    this.scale = scale;
    values = Platform.allocateMemory((long) WIDTH * room);
  }

  @Override
  void writeNull(int at) {
    put(at, 0, 0);
  }

  @Override
  void writeValue(InternalRow row, int at) {
    Decimal decimal = row.getDecimal(ordinal, precision, scale);
    if (!decimal.changePrecision(precision, scale)) {
      throw new BowstringException(
          "invalid_argument", false, decimal + " does not fit decimal(" + precision + "," + scale + "); cast the column before it is written");
    }
    if (precision <= Decimal.MAX_LONG_DIGITS()) {
      long unscaled = decimal.toUnscaledLong();
      put(at, unscaled, unscaled >> 63);
      return;
    }
    BigInteger unscaled = decimal.toJavaBigDecimal().unscaledValue();
    put(at, unscaled.longValue(), unscaled.shiftRight(64).longValue());
  }

  private void put(int at, long low, long high) {
    long place = values + (long) WIDTH * at;
    Platform.putLong(null, place, low);
    Platform.putLong(null, place + 8, high);
  }

  @Override
  long bytes(int rows) {
    return bits(rows) + (long) WIDTH * rows;
  }

  @Override
  int buffers() {
    return 2;
  }

  @Override
  int places(int rows, long[] places, int at) {
    return place(values, (long) WIDTH * rows, places, placeOfValidity(rows, places, at));
  }

  @Override
  void makeRoom(int rows, int room) {
    super.makeRoom(rows, room);
    values = Platform.reallocateMemory(values, (long) WIDTH * rows, (long) WIDTH * room);
  }

  @Override
  void close() {
    super.close();
    Platform.freeMemory(values);
    values = 0;
  }
}
