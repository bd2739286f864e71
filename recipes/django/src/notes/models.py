from django.db import models


class Note(models.Model):
    text = models.TextField()
    attachment = models.FileField(upload_to="%Y", blank=True)
