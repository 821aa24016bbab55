package io.bowstring.spark;

import org.apache.arrow.vector.BaseFixedWidthVector;
import org.apache.arrow.vector.ValueVector;
import org.apache.arrow.vector.complex.ListVector;
import org.apache.arrow.vector.complex.MapVector;
import org.apache.arrow.vector.complex.StructVector;
import org.apache.spark.sql.vectorized.ArrowColumnVector;
import org.apache.spark.sql.vectorized.ColumnarArray;
import org.apache.spark.sql.vectorized.ColumnarMap;

/**
 * A column of arrays or maps, or of structs with such in them, whose memory its reader lets go.
 *
 * <p>Spark's higher-order functions ({@code transform}, {@code filter}, {@code aggregate}) look at an element before they ask whether it is
 * null, which Arrow's vectors refuse: {@link ElementColumn}s do not.
 */
final class NestedColumn extends HeldColumn {
  /** An array's elements; a map's keys and values; a struct's fields. */
  private final ArrowColumnVector[] inner;

  private NestedColumn(ValueVector vector) {
    super(vector);
    if (vector instanceof MapVector map) {
      StructVector entries = (StructVector) map.getDataVector();
      inner = new ArrowColumnVector[] {element(entries.getChildByOrdinal(0)), element(entries.getChildByOrdinal(1))};
    } else if (vector instanceof ListVector list) {
      inner = new ArrowColumnVector[] {element(list.getDataVector())};
    } else {
      inner = ((StructVector) vector).getChildrenFromFields().stream().map(NestedColumn::of).toArray(ArrowColumnVector[]::new);
    }
  }

  /** A column that its reader lets go. */
  static ArrowColumnVector of(ValueVector vector) {
    return hasElements(vector) ? new NestedColumn(vector) : new HeldColumn(vector);
  }

  private static ArrowColumnVector element(ValueVector vector) {
    return vector instanceof BaseFixedWidthVector ? new ElementColumn(vector) : of(vector);
  }

  private static boolean hasElements(ValueVector vector) {
    return vector instanceof ListVector
        || (vector instanceof StructVector struct && struct.getChildrenFromFields().stream().anyMatch(NestedColumn::hasElements));
  }

  @Override
  public ColumnarArray getArray(int row) {
    if (isNullAt(row)) {
      return null;
    }
    ListVector list = (ListVector) getValueVector();
    int start = list.getElementStartIndex(row);
    return new ColumnarArray(inner[0], start, list.getElementEndIndex(row) - start);
  }

  @Override
  public ColumnarMap getMap(int row) {
    if (isNullAt(row)) {
      return null;
    }
    MapVector map = (MapVector) getValueVector();
    int start = map.getElementStartIndex(row);
    return new ColumnarMap(inner[0], inner[1], start, map.getElementEndIndex(row) - start);
  }

  @Override
  public ArrowColumnVector getChild(int ordinal) {
    return inner[ordinal];
  }
}
