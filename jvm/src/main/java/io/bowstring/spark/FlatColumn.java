package io.bowstring.spark;

import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.types.BinaryType;
import org.apache.spark.sql.types.BooleanType;
import org.apache.spark.sql.types.ByteType;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.DateType;
import org.apache.spark.sql.types.DayTimeIntervalType;
import org.apache.spark.sql.types.DecimalType;
import org.apache.spark.sql.types.DoubleType;
import org.apache.spark.sql.types.FloatType;
import org.apache.spark.sql.types.IntegerType;
import org.apache.spark.sql.types.LongType;
import org.apache.spark.sql.types.ShortType;
import org.apache.spark.sql.types.StringType;
import org.apache.spark.sql.types.TimestampNTZType;
import org.apache.spark.sql.types.TimestampType;
import org.apache.spark.sql.types.YearMonthIntervalType;
import org.apache.spark.unsafe.Platform;

/** A column in memory that Java's garbage collector does not know: validity bits, and what a kind of values needs. */
abstract class FlatColumn {
  private static final byte ALL_VALID = (byte) 0xff;

  final int ordinal;
  private long validity;
  private int nulls;

  /** All rows are valid until one is not. */
  FlatColumn(int ordinal, int room) {
    this.ordinal = ordinal;
    validity = Platform.allocateMemory(bits(room));
    Platform.setMemory(validity, ALL_VALID, bits(room));
  }

  static boolean isKnown(DataType type) {
    return type instanceof StringType || type instanceof BinaryType || type instanceof DecimalType || kindOf(type) != null;
  }

  static FlatColumn of(DataType type, int ordinal, int room) {
    if (type instanceof StringType || type instanceof BinaryType) {
      return new FlatBytes(ordinal, room, type instanceof StringType);
    }
    if (type instanceof DecimalType decimal) {
      return new FlatDecimals(ordinal, room, decimal.precision(), decimal.scale());
    }
    return new FlatValues(ordinal, room, kindOf(type));
  }

  private static FlatValues.Kind kindOf(DataType type) {
    if (type instanceof LongType
        || type instanceof TimestampType
        || type instanceof TimestampNTZType
        || type instanceof DayTimeIntervalType) {
      return FlatValues.Kind.LONG;
    }
    if (type instanceof IntegerType || type instanceof DateType || type instanceof YearMonthIntervalType) {
      return FlatValues.Kind.INT;
    }
    if (type instanceof DoubleType) {
      return FlatValues.Kind.DOUBLE;
    }
    if (type instanceof FloatType) {
      return FlatValues.Kind.FLOAT;
    }
    if (type instanceof ShortType) {
      return FlatValues.Kind.SHORT;
    }
    if (type instanceof ByteType) {
      return FlatValues.Kind.BYTE;
    }
    return type instanceof BooleanType ? FlatValues.Kind.BOOLEAN : null;
  }

  final void write(InternalRow row, int at) {
    if (row.isNullAt(ordinal)) {
      nulls++;
      long place = validity + (at >> 3);
      Platform.putByte(null, place, (byte) (Platform.getByte(null, place) & ~(1 << (at & 7))));
      writeNull(at);
    } else {
      writeValue(row, at);
    }
  }

  abstract void writeNull(int at);

  abstract void writeValue(InternalRow row, int at);

  /** Bytes of so many rows. */
  abstract long bytes(int rows);

  /** How many buffers Arrow has for it, validity included. */
  abstract int buffers();

  /** Puts address and bytes of each buffer into {@code places} from {@code at} on; where the next one goes. */
  abstract int places(int rows, long[] places, int at);

  /** Room for more rows; {@code rows} are there. */
  void makeRoom(int rows, int room) {
    long more = Platform.reallocateMemory(validity, bits(rows), bits(room));
    Platform.setMemory(more + bits(rows), ALL_VALID, bits(room) - bits(rows));
    validity = more;
  }

  void reset(int room) {
    if (nulls > 0) {
      nulls = 0;
      Platform.setMemory(validity, ALL_VALID, bits(room));
    }
  }

  void close() {
    Platform.freeMemory(validity);
    validity = 0;
  }

  final int nulls() {
    return nulls;
  }

  final int placeOfValidity(int rows, long[] places, int at) {
    return place(validity, bits(rows), places, at);
  }

  static int place(long address, long bytes, long[] places, int at) {
    places[at] = address;
    places[at + 1] = bytes;
    return at + 2;
  }

  /** Bytes of a bit per row. */
  static long bits(int rows) {
    return (rows + 7L) >> 3;
  }
}
