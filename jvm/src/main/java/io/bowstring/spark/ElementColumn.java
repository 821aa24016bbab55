package io.bowstring.spark;

import org.apache.arrow.vector.ValueVector;

/** Elements of arrays, or keys or values of maps: where one is null, a number is 0, and nobody looks at it. */
final class ElementColumn extends HeldColumn {
  ElementColumn(ValueVector vector) {
    super(vector);
  }

  @Override
  public boolean getBoolean(int row) {
    return !isNullAt(row) && super.getBoolean(row);
  }

  @Override
  public byte getByte(int row) {
    return isNullAt(row) ? 0 : super.getByte(row);
  }

  @Override
  public short getShort(int row) {
    return isNullAt(row) ? 0 : super.getShort(row);
  }

  @Override
  public int getInt(int row) {
    return isNullAt(row) ? 0 : super.getInt(row);
  }

  @Override
  public long getLong(int row) {
    return isNullAt(row) ? 0 : super.getLong(row);
  }

  @Override
  public float getFloat(int row) {
    return isNullAt(row) ? 0 : super.getFloat(row);
  }

  @Override
  public double getDouble(int row) {
    return isNullAt(row) ? 0 : super.getDouble(row);
  }
}
