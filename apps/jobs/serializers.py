from typing import Any

from rest_framework import serializers

from apps.jobs.models import Job, JobLine


class JobLineSerializer(serializers.ModelSerializer[JobLine]):
    class Meta:
        model = JobLine
        fields = ("at", "attempt", "text")
        read_only_fields = fields


class JobSerializer(serializers.ModelSerializer[Job]):
    class Meta:
        model = Job
        fields = ("id", "kind", "subject_id", "status", "reason", "progress", "attempt",
                  "max_attempts", "worker", "created_at", "started_at", "finished_at")  # fmt: skip
        read_only_fields = fields


class JobDetailSerializer(JobSerializer):
    lines = JobLineSerializer(many=True)

    class Meta(JobSerializer.Meta):
        fields: Any = (*JobSerializer.Meta.fields, "lines")
        read_only_fields = fields
