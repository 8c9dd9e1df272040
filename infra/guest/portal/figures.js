// Draws the figures that stand in the page as text, too. The library is Chart.js.
"use strict";

const ink = getComputedStyle(document.body);
const color = (name) => ink.getPropertyValue(name).trim();

for (const canvas of document.querySelectorAll("canvas[data-values]")) {
  const values = JSON.parse(canvas.dataset.values);
  const unit = canvas.dataset.unit;
  canvas.hidden = false;
  new Chart(canvas, {
    type: "line",
    data: {
      labels: values.map((_, at) => `${values.length - 1 - at} min ago`),
      datasets: [{ data: values, borderColor: color("--good"), borderWidth: 1.5, pointRadius: 0 }],
    },
    options: {
      animation: false,
      maintainAspectRatio: false,
      interaction: { intersect: false, mode: "index" },
      plugins: { legend: { display: false } },
      scales: {
        x: { display: false },
        y: {
          beginAtZero: true,
          grid: { color: color("--line") },
          ticks: { color: color("--soft"), maxTicksLimit: 3, callback: (value) => `${value} ${unit}` },
        },
      },
    },
  });
}
