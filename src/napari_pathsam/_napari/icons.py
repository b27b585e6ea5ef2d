"""The tools' icons, drawn here so that they follow the screen's scale and need no files."""

from __future__ import annotations

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPainterPath, QPen, QPixmap

INK, ACCENT = "#d6d8db", "#69c0ff"
SIDE = 48


def tool_icon(tool_id: str) -> QIcon:
    """The icon of one tool."""
    pixmap = QPixmap(SIDE, SIDE)
    pixmap.fill(Qt.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.Antialiasing)
    painter.setPen(QPen(QColor(INK), 3.5, Qt.SolidLine, Qt.RoundCap, Qt.RoundJoin))
    _DRAW[tool_id](painter)
    painter.end()
    return QIcon(pixmap)


def _point(painter: QPainter) -> None:
    painter.drawEllipse(QPointF(24, 24), 16, 16)
    painter.setPen(QPen(QColor(ACCENT), 4))
    painter.drawLine(QPointF(24, 16), QPointF(24, 32))
    painter.drawLine(QPointF(16, 24), QPointF(32, 24))


def _box(painter: QPainter) -> None:
    painter.drawRect(QRectF(7, 10, 34, 28))
    painter.setPen(Qt.NoPen)
    painter.setBrush(QColor(ACCENT))
    for x, y in ((7, 10), (41, 38)):
        painter.drawEllipse(QPointF(x, y), 5, 5)


def _scribble(painter: QPainter) -> None:
    path = QPainterPath(QPointF(6, 34))
    path.cubicTo(14, 4, 22, 8, 24, 24)
    path.cubicTo(26, 42, 34, 40, 42, 12)
    painter.setPen(QPen(QColor(ACCENT), 4.5, Qt.SolidLine, Qt.RoundCap))
    painter.drawPath(path)


def _lasso(painter: QPainter) -> None:
    pen = QPen(QColor(ACCENT), 4, Qt.CustomDashLine, Qt.RoundCap)
    pen.setDashPattern([2, 2])
    painter.setPen(pen)
    painter.drawPath(_blob())


def _refine(painter: QPainter) -> None:
    painter.setBrush(QColor(105, 192, 255, 90))
    painter.drawPath(_blob())
    painter.setPen(QPen(QColor(ACCENT), 4, Qt.SolidLine, Qt.RoundCap))
    painter.drawLine(QPointF(24, 30), QPointF(42, 44))


def _blob() -> QPainterPath:
    path = QPainterPath(QPointF(10, 26))
    path.cubicTo(6, 8, 26, 4, 36, 12)
    path.cubicTo(48, 22, 38, 42, 24, 40)
    path.cubicTo(14, 38, 12, 34, 10, 26)
    return path


_DRAW = {"point": _point, "box": _box, "scribble": _scribble, "lasso": _lasso, "refine": _refine}
